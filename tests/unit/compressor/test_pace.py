from dataclasses import dataclass, field

import pytest

from compressor.pace import Pace, Stage, Workload, stages
from contract.job import Progress
from contract.methods.prune import PruneChannels
from contract.methods.quantize import QuantizeStatic
from contract.methods.train import FineTune


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now: float = 100.0
    told: list[Progress] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now


PLAN = (
    Stage("measuring", 2.0),
    Stage("fine_tune", 10.0, step_index=0, trains=True),
    Stage("distill", 20.0, step_index=1, trains=True),
    Stage("proof", 8.0),
)


def started() -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(PLAN, clock.told.append, clock=clock), clock


def test_a_job_that_goes_as_expected() -> None:
    # Given stages of 2, 10, 20 and 8 seconds
    pace, clock = started()
    # When the first is done as fast as expected, and half of the second
    clock.now += 2
    pace.finish()
    clock.now += 5
    pace.advance(0.5, "epoch 1 of 2")
    # Then 7 of 40 seconds are behind us
    told = clock.told[-1]
    assert told.fraction == pytest.approx(7 / 40)
    assert told.eta_seconds == pytest.approx(33)
    assert (told.step_index, told.step_count, told.phase) == (0, 2, "epoch 1 of 2")


def test_what_was_measured_corrects_what_is_to_come() -> None:
    # Given a training that takes three times as long as expected
    pace, clock = started()
    clock.now += 2
    pace.finish()
    clock.now += 15
    # When it says that it is half done
    pace.advance(0.5, "epoch 1 of 2")
    # Then the rest of it, the other training at the same pace, and the proof are to come
    assert clock.told[-1].eta_seconds == pytest.approx(15 + 60 + 8)
    # And so it stays when it is done
    clock.now += 15
    pace.finish()
    pace.advance(0.0, "epoch 1 of 4")
    assert clock.told[-1].eta_seconds == pytest.approx(60 + 8)


def test_the_fraction_never_falls_and_never_promises_the_end() -> None:
    # Given a job whose last training turns out slower and slower
    pace, clock = started()
    for done, seconds in [(0.1, 1), (0.5, 1), (0.6, 40), (0.61, 60), (1.0, 1)]:
        clock.now += seconds
        pace.advance(done, "somewhere")
    pace.finish()
    for _ in range(4):
        clock.now += 500
        pace.advance(1.0, "somewhere")
        pace.finish()
    # Then what is told only grows, and 1 is left to who knows that the job is done
    fractions = [progress.fraction for progress in clock.told]
    assert fractions == sorted(fractions)
    assert 0 < fractions[-1] < 1
    assert all(progress.eta_seconds is not None and progress.eta_seconds >= 0 for progress in clock.told)


def test_steps_of_an_earlier_attempt_count() -> None:
    # Given a resumed job whose first training took 30 seconds in an earlier attempt
    pace, clock = started()
    clock.now += 2
    pace.finish()
    pace.finish(30.0)
    # When the second begins
    pace.advance(0.0, "epoch 1 of 4")
    # Then those seconds are behind us, and tell of the training to come
    assert clock.told[-1].fraction == pytest.approx(32 / (32 + 60 + 8))


def test_epochs_weigh_most() -> None:
    # Given a job that prunes, trains and quantizes
    steps = (PruneChannels(), FineTune(epochs=10), QuantizeStatic(samples=100))
    work = Workload(macs=10**9, train_images=1000, evaluation_images=100, files=2, threads=2)
    # When its stages are guessed
    plan = stages(steps, work)
    # Then there is one for each step, between the original and the files, and training is the longest
    assert [stage.step_index for stage in plan] == [None, 0, 1, 2, None]
    assert max(plan, key=lambda stage: stage.seconds).name == "fine_tune"
    # And a faster machine is expected to need less
    faster = stages(steps, Workload(**{**vars(work), "rate": 10 * work.rate}))
    assert all(fast.seconds <= slow.seconds for fast, slow in zip(faster, plan, strict=True))
    assert faster[2].seconds < 0.2 * plan[2].seconds


def test_a_measured_rate_takes_the_place_of_the_guess() -> None:
    # Given a network of 10^9 MACs, of which two threads do 100 images in 20 seconds
    work = Workload(macs=10**9, train_images=0, evaluation_images=0, files=1, threads=2)
    # Then one image takes a fifth of a second
    assert work.at_rate(images=100, seconds=20).forward_seconds == pytest.approx(0.2)
