"""Channels that go in rounds, with training in between and without."""

from dataclasses import replace
from typing import Literal

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context, Interrupted
from compressor.data.images import Images
from compressor.measure.counting import count_macs
from compressor.methods import prune_channels, prune_weights
from contract.failures import UnfitModel
from contract.methods import Recovery
from contract.methods.prune import PruneChannels, PruneWeights
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.methods.channels_gone import Notes, by_macs
from tests.unit.compressor.pruning.architectures import candidate, images
from tests.unit.compressor.pruning.plain import IMAGES, plain
from tests.unit.compressor.small_jobs import trained_candidate

ROUNDS = PruneChannels(
    macs_ratio=0.4, rounds=3, round_to=1, training=Recovery(epochs=2, batch_size=8, learning_rate=0.01)
)


def test_rounds_reach_the_target_with_training_in_between() -> None:
    # Given a network with zeros / When channels go in three rounds
    start = prune_weights.apply(plain(), PruneWeights(amount=0.3), Context())
    macs = count_macs(start.module, start.input_shape).total
    told: list[tuple[float, str]] = []
    context = Context(train=IMAGES, calibration=IMAGES, progress=lambda done, phase: told.append((done, phase)))
    after = prune_channels.apply(start, ROUNDS, context)
    # Then the target is met as nearly as eight channels allow, zeros are still zero, and progress tells of each round
    assert count_macs(after.module, after.input_shape).total / macs <= 0.4
    for name, mask in after.masks.items():
        assert not after.module.get_parameter(name)[~mask].any()
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    phases = {phase.rpartition(", ")[0] for _, phase in told}
    assert phases >= {"round 1 of 3, epoch 1 of 2", "round 2 of 3, epoch 2 of 2"}


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_interrupted_rounds_end_as_uninterrupted_ones(stop_at: int) -> None:
    # Given rounds that nobody stops
    context = Context(train=IMAGES, calibration=IMAGES, seed=5)

    def fresh() -> Candidate:
        return prune_weights.apply(plain(), PruneWeights(amount=0.3), Context())

    whole = prune_channels.apply(fresh(), ROUNDS, context)
    # When others are stopped behind an epoch, and go on
    stopping = StopAt(stop_at)
    with pytest.raises(Interrupted):
        prune_channels.apply(fresh(), ROUNDS, replace(context, checkpoints=stopping))
    resumed = prune_channels.apply(fresh(), ROUNDS, replace(context, checkpoints=GoOnFrom(stopping.kept[-1])))
    # Then shapes, weights, masks and edits are the same, to the last bit
    state, other = whole.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert all(torch.equal(whole.masks[name], resumed.masks[name]) for name in whole.masks)
    assert resumed.edits == whole.edits


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize(
    "asked",
    [{"ratio": 0.5, "round_to": 4}, {"ratio": 0.1, "ratio_by_layer": {"first": 0.5}, "round_to": 1}],
    ids=["in steps", "of its own"],
)
def test_in_however_many_rounds_as_many_channels_go(asked: dict[str, object], rounds: int) -> None:
    # Given a layer of eight channels / When half of them go, a round's part being less than a step, or the layer's own
    params = PruneChannels.model_validate({**asked, "rounds": rounds})
    after = prune_channels.apply(plain(), params, Context())
    # Then four are left
    assert after.module.get_parameter("first.weight").shape[0] == 4


def test_heads_go_in_rounds_as_at_once() -> None:
    # Given a vision transformer / When half of its heads and channels go in two rounds, and at once
    shapes = [
        [tuple(p.shape) for p in prune_channels.apply(candidate("vit_b_16"), params, Context()).module.parameters()]
        for params in (PruneChannels(ratio=0.5, rounds=2), PruneChannels(ratio=0.5))
    ]
    # Then it is the same
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_rounds_take_too_much_in_steps_is_made_good(scope: Literal["layer", "global"]) -> None:
    # Given a network with many layers / When half of its MACs shall go in four rounds, in steps of eight channels
    notes = Notes()
    prune_channels.apply(trained_candidate(), PruneChannels(macs_ratio=0.5, rounds=4, scope=scope), notes.context())
    # Then the target is met as nearly as in one round
    assert 0.49 <= float(str(notes.details["macs_left"])) <= 0.5


def test_a_target_that_rounds_cannot_meet_is_told_before_any_training() -> None:
    # Given a target below what is left with one channel / When it is asked for in rounds / Then the first one tells
    params = ROUNDS.model_copy(update={"macs_ratio": 0.05})
    told: list[str] = []
    context = Context(train=IMAGES, progress=lambda _, phase: told.append(phase))
    with pytest.raises(UnfitModel, match=r"macs_ratio of 0\.05 cannot be met: .* 0\.125 of them are left"):
        prune_channels.apply(plain(), params, context)
    assert not [phase for phase in told if "epoch" in phase]


def test_the_last_round_fits_what_is_left_to_as_many_images_as_it_is_asked_to() -> None:
    # Given images / When channels go in two rounds, the last of which is fitted to more images
    told: list[str] = []
    context = Context(calibration=IMAGES, progress=lambda _, phase: told.append(phase))
    params = PruneChannels(round_to=1, rounds=2, samples=8, reconstruct_samples=24)
    prune_channels.apply(plain(), params, context)
    # Then the first sees fewer
    assert [phase for phase in told if "fitting" in phase] == [
        "fitting what is left to 8 images",
        "fitting what is left to 24 images",
    ]


def test_rounds_without_training_need_no_labels_and_reach_the_target() -> None:
    # Given a network, and images that nobody has labelled / When channels go in three rounds, by gates
    before = candidate("mobilenet_v3_small")
    unlabelled = Images(images(12, 64), torch.full((12,), -1), before.preprocessing)
    params = PruneChannels(macs_ratio=0.5, importance="fisher", scope="global", rounds=3)
    after = prune_channels.apply(before, params, Context(calibration=unlabelled))
    # Then the target is met, within a hundredth
    macs = count_macs(before.module, before.input_shape).total
    assert 0.49 <= count_macs(after.module, after.input_shape).total / macs <= 0.5


def test_a_part_of_the_time_is_told_of_all_rounds_together() -> None:
    # Given a machine whose time is the multiply-accumulates / When half of the time shall be left, in three rounds
    params = ROUNDS.model_copy(update={"macs_ratio": None, "latency_ratio": 0.5})
    before, notes = plain(), Notes()
    context = replace(notes.context(), train=IMAGES, time=by_macs)
    after = prune_channels.apply(before.copied(), params, context)
    # Then the report tells what is left of the time before the step, and the least ratio by which 8 channels become 4
    now, then = by_macs([after, before])
    assert notes.details["latency_left"] == pytest.approx(now / then) == pytest.approx(0.5)
    assert notes.details["ratio"] == pytest.approx(0.45)
    # And so it does where the second round was interrupted
    stopping, again = StopAt(3), Notes()
    with pytest.raises(Interrupted):
        prune_channels.apply(before.copied(), params, replace(context, checkpoints=stopping))
    resumed = replace(context, checkpoints=GoOnFrom(stopping.kept[-1]), record=again.details.__setitem__)
    prune_channels.apply(before.copied(), params, resumed)
    assert all(again.details[name] == notes.details[name] for name in ("ratio", "latency_left"))
