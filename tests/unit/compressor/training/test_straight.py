"""Training goes straight through codes: the network computes with them, and they stay what they are."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context, Interrupted, NoCheckpoints
from compressor.measure.accuracy import answers
from compressor.methods import distill, fine_tune, prune_weights, quantize_weights
from compressor.models.architectures import build
from compressor.quantization.fitting import Form, encoded, refitted
from contract.methods.distill import Distill
from contract.methods.low_bit import QuantizeWeights, Scheme
from contract.methods.prune import PruneWeights
from contract.methods.train import FineTune
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained_candidate

DATA = images(96, seed=0)
RECIPE: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 24}
SCHEMES: list[dict[str, Any]] = [
    {"bits": 1},
    {"bits": 2, "scheme": "ternary"},
    {"bits": 3, "scheme": "codebook"},
    {"bits": 3, "scheme": "asymmetric", "group_size": 32},
    {"bits": 4, "scheme": "power_of_two"},
]


def network() -> Candidate:
    return Candidate(
        module=build(NETWORK, seed=0).eval(), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4
    )


def context(checkpoints: Any = None) -> Context:
    return Context(train=DATA, calibration=DATA, checkpoints=checkpoints or NoCheckpoints())


def coded(start: Candidate | None = None, **params: object) -> Candidate:
    return quantize_weights.apply(start or network(), QuantizeWeights.model_validate(params), context())


def holds_its_codes(candidate: Candidate) -> bool:
    found = candidate.plan.levels
    return bool(found) and all(
        torch.equal(weight.dequantized(), candidate.module.get_parameter(name)) for name, weight in found.items()
    )


@pytest.mark.parametrize("how", SCHEMES, ids=str)
@pytest.mark.parametrize("keep", [{}, {"average": 0.9}, {"average": 0.9, "keep": "best", "held_out": 0.25}], ids=str)
def test_what_was_trained_is_still_what_its_codes_mean(how: dict[str, Any], keep: dict[str, Any]) -> None:
    # Given a network in few bits / When it is trained, whatever is kept of that
    before = coded(**how)
    kinds = {name: (w.scheme, w.bits, w.group, len(w.levels)) for name, w in before.plan.levels.items()}
    first = {name: w.dequantized() for name, w in before.plan.levels.items()}
    after = fine_tune.apply(before, FineTune.model_validate(RECIPE | keep), context())
    # Then every weight is what its codes mean, in the same scheme, and something was learned
    assert holds_its_codes(after)
    assert {name: (w.scheme, w.bits, w.group, len(w.levels)) for name, w in after.plan.levels.items()} == kinds
    assert any(not torch.equal(w.dequantized(), first[name]) for name, w in after.plan.levels.items())


def test_one_bit_learns_what_rounding_has_lost() -> None:
    # Given a trained network, in one bit without training and with it
    data = images(240, seed=0)
    where, new = Context(train=data, calibration=data), images(240, seed=1)

    def right(**params: object) -> tuple[float, Candidate]:
        asked = QuantizeWeights.model_validate({"bits": 1, "all_layers": True, **params})
        made = quantize_weights.apply(trained_candidate(), asked, where)
        return float((answers(made.module, new).argmax(1) == new.labels).double().mean()), made

    (rounded, _), (learned, made) = right(), right(training=RECIPE | {"epochs": 3})
    # Then it has learned it again, and all its weights have one of two values a channel
    assert learned > max(0.85, rounded + 0.1)
    assert all(len(channel.unique()) <= 2 for w in made.plan.levels.values() for channel in w.dequantized())


def test_pruned_weights_stay_pruned_while_codes_learn() -> None:
    # Given a pruned network with a codebook / When its centroids are trained
    pruned = prune_weights.apply(network(), PruneWeights(amount=0.8), context())
    made = fine_tune.apply(coded(pruned, bits=4, scheme="codebook"), FineTune.model_validate(RECIPE), context())
    # Then zeros are exact, and still there
    assert holds_its_codes(made)
    for name, mask in made.masks.items():
        assert not made.module.get_parameter(name)[~mask].any()


def test_a_teacher_can_teach_codes() -> None:
    # Given a network in two bits and its original
    where = Context(train=DATA, calibration=DATA, others={"original": network})
    # When it learns from the original / Then it still holds what its codes mean
    assert holds_its_codes(distill.apply(coded(bits=2), Distill.model_validate(RECIPE), where))


@pytest.mark.parametrize("keep", [{}, {"average": 0.9, "keep": "best", "held_out": 0.25}], ids=str)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(keep: dict[str, Any]) -> None:
    # Given a training of three epochs through codes, and the same one stopped behind its first
    params = FineTune.model_validate(RECIPE | keep | {"epochs": 3})
    whole = fine_tune.apply(coded(bits=2), params, context())
    stop = StopAt(1)
    with pytest.raises(Interrupted):
        fine_tune.apply(coded(bits=2), params, context(stop))
    # When the second goes on from what was kept
    resumed = fine_tune.apply(coded(bits=2), params, context(GoOnFrom(stop.kept[-1])))
    # Then weights and codes are the same, bit for bit
    mine, other = whole.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert all(torch.equal(t, resumed.plan.tensors()[name]) for name, t in whole.plan.tensors().items())


@pytest.mark.parametrize(
    "form",
    [
        Form(Scheme.SYMMETRIC, 3),
        Form(Scheme.ASYMMETRIC, 3, 10),
        Form(Scheme.BINARY, 1),
        Form(Scheme.TERNARY, 2),
        Form(Scheme.CODEBOOK, 3),
    ],
)
def test_fitting_again_lowers_the_error_until_nothing_changes(form: Form) -> None:
    # Given codes of a weight / When the same weight is fitted again and again
    w = torch.randn(8, 30, generator=torch.Generator().manual_seed(0))
    codes = encoded(w, form)
    errors = []
    for _ in range(20):
        errors.append(float((codes.dequantized() - w).square().sum()))
        codes = refitted(w, codes)
    # Then the squared error never grows, but for the rounding of scales to 16 bits
    assert all(after <= before * 1.001 for before, after in pairwise(errors))
    assert errors[-1] <= errors[0]
