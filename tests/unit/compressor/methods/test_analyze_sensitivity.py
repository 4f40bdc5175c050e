"""What each layer can lose is what pruning that layer alone does to the answers."""

import copy

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.accuracy import answers
from compressor.methods import analyze_sensitivity, prune_weights
from contract.failures import MissingData, UnfitModel
from contract.methods.prune import PruneWeights
from contract.methods.sensitivity import AnalyzeSensitivity
from contract.report import LayerSensitivity, Sensitivity
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained

DATA = images(64, seed=0)


@pytest.fixture(scope="module")
def learnt() -> nn.Module:
    """A network that knows four tints."""
    return trained()


def candidate(module: nn.Module) -> Candidate:
    return Candidate(module=copy.deepcopy(module), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4)


def analyzed(made: Candidate, **params: object) -> dict[str, LayerSensitivity]:
    """The curves by layer."""
    notes: dict[str, Json] = {}
    context = Context(calibration=DATA, record=notes.__setitem__)
    analyze_sensitivity.apply(made, AnalyzeSensitivity.model_validate(params), context)
    return {layer.name: layer for layer in Sensitivity.model_validate(notes["sensitivity"]).layers}


@pytest.mark.parametrize("importance", ["l1", "wanda", "gradient"])
@pytest.mark.parametrize("pattern", ["unstructured", "filters"])
def test_the_curve_is_what_pruning_that_layer_does(learnt: nn.Module, importance: str, pattern: str) -> None:
    # Given the curves of a network
    curves = analyzed(candidate(learnt), importance=importance, pattern=pattern, amounts=(0.5, 0.9))
    # When one of its layers is really pruned
    name = "layer2.0.conv1.0" if "layer2.0.conv1.0" in curves else next(iter(curves))
    before = answers(learnt, DATA).log_softmax(1)
    for place, amount in enumerate((0.5, 0.9)):
        params = PruneWeights.model_validate(
            {"importance": importance, "pattern": pattern, "amount": amount, "include": (name,), "recalibrate": False}
        )
        pruned = prune_weights.apply(candidate(learnt), params, Context(calibration=DATA))
        after = answers(pruned.module, DATA).log_softmax(1)
        # Then its answers have changed by what the curve says: KL(original || pruned), and the part that agrees
        kl = (before.exp() * (before - after)).sum(1).mean()
        assert curves[name].kl[place] == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
        agreed = (before.argmax(1) == after.argmax(1)).float().mean()
        assert curves[name].agreement[place] == pytest.approx(float(agreed))


def test_every_layer_is_tried_and_nothing_is_changed(learnt: nn.Module) -> None:
    # Given a network with zeros / When it is analyzed
    start = prune_weights.apply(candidate(learnt), PruneWeights(amount=0.2), Context())
    before = {name: tensor.clone() for name, tensor in start.module.state_dict().items()}
    curves = analyzed(start, amounts=(0.2, 0.6, 1.0))
    # Then every layer has a curve that begins at nothing, for so much is zero already, and ends high
    layers = {name for name, part in start.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert set(curves) == layers
    assert all(curve.kl[0] == pytest.approx(0, abs=1e-5) for curve in curves.values())
    assert all(curve.kl[2] >= curve.kl[0] for curve in curves.values())
    # And the network is bit for bit what it was
    assert all(torch.equal(before[name], tensor) for name, tensor in start.module.state_dict().items())


def test_without_images_it_says_what_is_missing(learnt: nn.Module) -> None:
    with pytest.raises(MissingData, match="needs images"):
        analyze_sensitivity.apply(candidate(learnt), AnalyzeSensitivity(), Context())


def test_a_network_without_layers_that_fit_is_refused_before_the_work(learnt: nn.Module) -> None:
    with pytest.raises(UnfitModel, match="pattern 1x4"):
        analyze_sensitivity.preflight(candidate(learnt), AnalyzeSensitivity(pattern="1x4", include=("conv1.0",)))
