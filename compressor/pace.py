"""How far a job is, and how long it will take: guessed from its MACs at first, then from what was measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from contract.job import Progress
from contract.methods import Params, Role

#: Multiply-accumulates in a second of an eager network on one core, until one has been measured.
GUESSED_RATE = 1e10
#: A training step of an image costs so many forward passes: forward, backward (twice), and a teacher's forward.
_TRAINING_PASSES = 4
#: What every stage takes whatever the network: tracing, writing, starting a clean process, in seconds.
_STEP_SECONDS, _PROOF_SECONDS = 1.0, 12.0
#: Images that steps without training look at where their params do not say.
_LOOKS = 256


@dataclass(frozen=True)
class Stage:
    """A part of a job, with the time that it is expected to take."""

    name: str
    seconds: float
    #: Its place among the steps; none for what is before and behind them.
    step_index: int | None = None
    #: Whether its time is mostly that of epochs, so that one such stage tells of the others.
    trains: bool = False


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the guesses are made from."""

    #: Multiply-accumulates for one image.
    macs: int
    train_images: int
    evaluation_images: int
    files: int
    threads: int
    rate: float = GUESSED_RATE

    def at_rate(self, *, images: int, seconds: float) -> "Workload":
        """The same work, now that so many images were seen to take so long."""
        return replace(self, rate=max(1.0, self.macs * images / (max(seconds, 1e-3) * self.threads)))

    @property
    def forward_seconds(self) -> float:
        """Time of one image through the network."""
        return self.macs / (self.rate * self.threads)


def stages(steps: tuple[Params, ...], work: Workload) -> tuple[Stage, ...]:
    """The parts of a job in order: measuring the original, the steps, the proof of the files."""
    look = work.evaluation_images * work.forward_seconds
    return (
        Stage("measuring the original", _STEP_SECONDS + look),
        *(
            Stage(step.method, _STEP_SECONDS + look + _cost(step, work), index, step.recipe is not None)
            for index, step in enumerate(steps)
        ),
        Stage("proving the files", (_PROOF_SECONDS + look) * work.files),
    )


def _cost(step: Params, work: Workload) -> float:
    looks = getattr(step, "samples", _LOOKS) if Role.CALIBRATION in step.roles else 0
    passes = step.recipe.epochs * work.train_images * _TRAINING_PASSES if step.recipe else 0
    return (looks + passes) * work.forward_seconds


class Pace:
    """Tells a desk how far the job is; its fraction never falls.

    A finished stage counts with the time that it took; the one underway with what its own fraction promises; those to
    come with their guess, scaled for stages that train by how wrong the last such guess was.
    """

    def __init__(
        self, plan: tuple[Stage, ...], tell: Callable[[Progress], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan, self._tell, self._clock = list(plan), tell, clock
        self._at, self._began, self._told = 0, clock(), 0.0

    def expect(self, plan: tuple[Stage, ...]) -> None:
        """Better guesses for the stages to come."""
        self._plan[self._at + 1 :] = plan[self._at + 1 :]

    def advance(self, fraction: float, phase: str) -> None:
        """The stage underway is done to this fraction."""
        spent = self._clock() - self._began
        here = self._plan[self._at]
        promised = spent / fraction if fraction > 0.01 else max(here.seconds, spent)
        left = max(0.0, promised - spent) + self._to_come(self._scale(promised))
        done = sum(stage.seconds for stage in self._plan[: self._at]) + spent
        self._told = max(self._told, min(0.999, done / (done + left) if done + left > 0 else 0.0))
        self._tell(
            Progress(
                fraction=self._told,
                step_index=here.step_index,
                step_count=sum(stage.step_index is not None for stage in self._plan),
                phase=phase,
                eta_seconds=left,
                updated_at=datetime.now(UTC),
            )
        )

    def finish(self, seconds: float | None = None) -> None:
        """The stage underway is done; `seconds` tells what it took where an earlier attempt did it."""
        spent = self._clock() - self._began if seconds is None else seconds
        scale = self._scale(spent)
        self._plan[self._at] = replace(self._plan[self._at], seconds=spent)
        self._plan[self._at + 1 :] = [
            replace(stage, seconds=stage.seconds * scale) if stage.trains else stage
            for stage in self._plan[self._at + 1 :]
        ]
        self._at, self._began = min(self._at + 1, len(self._plan) - 1), self._clock()

    def _scale(self, seconds: float) -> float:
        here = self._plan[self._at]
        return seconds / here.seconds if here.trains and here.seconds > 0 else 1.0

    def _to_come(self, scale: float) -> float:
        return sum(stage.seconds * (scale if stage.trains else 1.0) for stage in self._plan[self._at + 1 :])
