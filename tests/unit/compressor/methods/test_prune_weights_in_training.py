"""Weights that become zero while the network is trained: gradually, in rounds, by magnitude and by surgery."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from compressor.context import Context, Interrupted
from compressor.measure.accuracy import answers, loss
from compressor.measure.counting import zeros
from compressor.methods import prune_weights
from compressor.training.splitting import split_of
from contract.methods import Recovery
from contract.methods.prune import PruneWeights
from contract.value import Json
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.methods.weights_cut import DATA, cut, small
from tests.unit.compressor.small_jobs import trained

RECOVERY = Recovery(epochs=4, batch_size=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def learnt() -> nn.Module:
    """A network that knows four tints."""
    return trained()


@pytest.mark.parametrize(
    ("schedule", "importance"),
    [*product(["gradual", "iterative"], ["l1", "gradient", "lamp"]), ("iterative", "obs")],
)
def test_a_network_pruned_while_it_trains_ends_at_the_amount_and_knows_more(
    learnt: nn.Module, schedule: str, importance: str
) -> None:
    # Given a network / When nine in ten weights go during a training, and all at once
    params = {"amount": 0.9, "scope": "global", "importance": importance}
    trained_ = cut(learnt, **params, schedule=schedule, training=RECOVERY.model_dump())
    at_once = cut(learnt, **params, recalibrate=False)
    # Then as many are zero, and the trained one knows more
    assert zeros(trained_.module) == pytest.approx(0.9, abs=2e-3)
    for name, mask in trained_.masks.items():
        assert not trained_.module.get_parameter(name)[~mask].any()
    assert loss(answers(trained_.module, DATA), DATA.labels) < loss(answers(at_once.module, DATA), DATA.labels)


class Idle(nn.Module):
    """Has a layer that it does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x.mean((2, 3)))


@pytest.mark.parametrize("importance", ["wanda", "obs"])
@pytest.mark.parametrize("schedule", ["gradual", "iterative"])
def test_a_layer_that_is_not_run_is_left_alone(schedule: str, importance: str) -> None:
    # Given a network with an idle layer / When weights go during a training, by what layers see
    notes: dict[str, Json] = {}
    recipe = {"epochs": 1, "batch_size": 16}
    after = cut(Idle(), notes, amount=0.5, schedule=schedule, importance=importance, training=recipe)
    # Then the other layer's go, and the report says which was left
    assert set(after.masks) == {"used.weight"}
    assert int(after.masks["used.weight"].sum()) == 6
    assert notes["layers_left_alone"] == ["idle"]


@pytest.mark.parametrize("params", [{"importance": "obs"}, {"schedule": "gradual"}, {"schedule": "iterative"}])
def test_the_report_tells_what_there_was_to_choose_from_at_last(learnt: nn.Module, params: dict[str, object]) -> None:
    # Given a pruning that chooses several times / When it is done
    notes: dict[str, Json] = {}
    recipe = {} if "importance" in params else {"training": RECOVERY.model_dump()}
    after = cut(learnt, notes, amount=0.5, **params, **recipe)
    # Then least, quartiles and most of each layer are told, of the weights that were still there
    told = notes["importance"]
    assert isinstance(told, dict)
    assert list(told) == [name.removesuffix(".weight") for name in after.masks]
    for five in told.values():
        assert isinstance(five, list)
        assert len(five) == 5
        numbers = [float(str(number)) for number in five]
        assert numbers == sorted(numbers)
        assert 0 < numbers[1] < numbers[3]


@pytest.mark.parametrize(("schedule", "settled"), [("gradual", 3), ("iterative", 4)])
def test_no_epoch_is_the_best_before_the_amount_is_reached(learnt: nn.Module, schedule: str, settled: int) -> None:
    # Given six epochs that are judged, in the first of which weights still go / When the best is kept
    notes: dict[str, Json] = {}
    judging: dict[str, object] = {"epochs": 6, "held_out": 0.25, "keep": "best", "patience": 1}
    recipe = RECOVERY.model_dump() | judging
    after = cut(learnt, notes, amount=0.95, schedule=schedule, training=recipe)
    # Then the amount is reached, and of the epochs that end with it the best is kept
    assert zeros(after.module) == pytest.approx(0.95, abs=2e-3)
    held_out = split_of(Recovery.model_validate(recipe), Context(train=DATA)).held_out
    losses = notes["held_out_loss"]
    assert held_out is not None
    assert isinstance(losses, list)
    assert loss(answers(after.module, held_out), held_out.labels) == pytest.approx(min(losses[settled:]), abs=1e-6)


def test_a_rewound_network_has_its_first_weights_where_it_has_any(learnt: nn.Module) -> None:
    # Given rounds that end with a rewinding and, behind the last, hardly a step
    recipe = Recovery(epochs=2, batch_size=48, learning_rate=1e-9, optimizer="sgd").model_dump()
    after = cut(learnt, amount=0.75, schedule="iterative", rounds=2, rewind=True, training=recipe)
    # Then what is left is what it was
    for name, mask in after.masks.items():
        assert torch.allclose(after.module.get_parameter(name)[mask], learnt.get_parameter(name)[mask], atol=1e-6)


def test_an_average_begins_anew_where_weights_have_made_up_for_others(learnt: nn.Module) -> None:
    # Given surgery during a training that moves nothing
    still: dict[str, object] = {"epochs": 1, "learning_rate": 1e-12, "optimizer": "sgd", "batch_size": 16}
    params: dict[str, object] = {"amount": 0.8, "schedule": "iterative", "rounds": 2, "importance": "obs"}
    # When the weights are averaged, and when they are not
    averaged = cut(learnt, **params, training={**still, "average": 0.999})
    last = cut(learnt, **params, training=still)
    # Then it is the same: what weights were before an operation is no part of the average
    for name in last.masks:
        assert torch.allclose(averaged.module.get_parameter(name), last.module.get_parameter(name), atol=1e-6)


@pytest.mark.parametrize("judging", [{}, {"held_out": 0.25, "keep": "best", "patience": 1}], ids=["last", "best"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"schedule": "gradual"},
        {"schedule": "gradual", "importance": "obs", "include": ["layer1.*"]},
        {"schedule": "iterative"},
        {"schedule": "iterative", "rewind": True},
    ],
    ids=["gradual", "surgery", "iterative", "rewound"],
)
def test_an_interrupted_schedule_ends_as_an_uninterrupted_one(
    learnt: nn.Module, schedule: dict[str, object], judging: dict[str, object]
) -> None:
    # Given a pruning during four epochs, with momenta and an average
    recipe = RECOVERY.model_copy(update={"average": 0.9}).model_dump() | judging
    params = PruneWeights.model_validate({"amount": 0.8, "training": recipe, **schedule})
    context = Context(train=DATA, calibration=DATA, seed=4)
    whole = prune_weights.apply(small(learnt), params, context)
    # When another is stopped behind the second, and goes on
    stopping = StopAt(2)
    with pytest.raises(Interrupted):
        prune_weights.apply(small(learnt), params, replace(context, checkpoints=stopping))
    going_on = replace(context, checkpoints=GoOnFrom(stopping.kept[-1]))
    resumed = prune_weights.apply(small(learnt), params, going_on)
    # Then weights and masks are the same, to the last bit
    state, other = whole.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert all(torch.equal(whole.masks[name], resumed.masks[name]) for name in whole.masks)
