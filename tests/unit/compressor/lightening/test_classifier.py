"""Classes that are not wanted: those that stay are answered as before, or the network cannot do without the rest."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.lightening.classifier import check_classifier, keeping
from compressor.methods import lighten, prune_weights, quantize_weights
from compressor.models import files
from compressor.models.architectures import build
from contract.failures import ClassesMismatch, UnfitModel
from contract.methods.lighten import Lighten
from contract.methods.low_bit import QuantizeWeights
from contract.methods.prune import PruneWeights
from contract.model import Architecture
from tests.unit.compressor.networks import answers, candidate_of, inputs_for, named, residual
from tests.unit.compressor.quantization.steps import Told
from tests.unit.compressor.small_jobs import trained_candidate


class Behind(nn.Module):
    """A network with something behind its last layer."""

    def __init__(self, network: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.network, self.tail = network, tail

    def forward(self, x: Tensor) -> Tensor:
        """What the tail makes of the logits (N, classes)."""
        out: Tensor = self.tail(self.network(x))
        return out


def built(name: str) -> Candidate:
    """A network with ten classes; timm's own for tests where the name says so."""
    if not name.startswith("test"):
        return named(name)
    architecture = Architecture(library="timm", name=name, options={"num_classes": 10})
    return candidate_of(build(architecture, seed=0), size=160, num_classes=10, architecture=architecture)


def followed_by(tail: nn.Module) -> Candidate:
    return candidate_of(Behind(residual().module, tail))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "test_vit"])
def test_the_classes_that_stay_are_answered_as_before(name: str, tmp_path: Path) -> None:
    # Given networks whose last layer is a convolution, or a linear one / When three of its classes are kept
    candidate = built(name)
    x, kept = inputs_for(candidate, 2), [2, 0, 1]
    wanted = answers(candidate.module, x)[:, kept]
    check_classifier(candidate, kept)
    made = keeping(candidate, kept)
    # Then they are answered as before, in the new order, by a layer with no other rows
    tolerance = 1e-5 * float(wanted.abs().max())
    assert torch.allclose(answers(made.module, x), wanted, atol=tolerance)
    assert made.num_classes == 3
    # And so they are by the network that is rebuilt from files
    files.write(made, tmp_path)
    again = files.read(tmp_path)
    assert torch.equal(answers(again.module, x), answers(made.module, x))
    assert (again.num_classes, again.classes) == (3, made.classes)


def test_the_others_leave_no_trace() -> None:
    # Given a network, a part of whose weights are pruned / When two classes are kept, by name and by number
    pruned = replace(trained_candidate(), classes=("red", "green", "blue", "olive"))
    pruned = prune_weights.apply(pruned, PruneWeights(amount=0.5, recalibrate=False), Context())
    before, told = pruned.masks["fc.weight"].clone(), Told()
    params = Lighten(keep_classes=("olive", 1), fold_batch_norm=False, remove_dead=False)
    made = lighten.apply(pruned, params, told.context())
    # Then weights, masks and names are those of these two
    assert made.classes == ("olive", "green")
    assert told.records["classes"] == ["olive", "green"]
    assert torch.equal(made.masks["fc.weight"], before[[3, 1]])
    assert made.module.get_parameter("fc.weight").shape[0] == made.module.get_parameter("fc.bias").shape[0] == 2
    assert not made.module.get_parameter("fc.weight")[~made.masks["fc.weight"]].any()
    assert 0 < float(told.records["parameters_left"]) < 1  # type: ignore[arg-type]


def test_layers_become_lighter_in_the_same_step() -> None:
    # Given a network with batch normalization / When two classes are kept and it is folded
    candidate = residual()
    x = inputs_for(candidate)
    wanted = answers(candidate.module, x)[:, [3, 1]]
    made = lighten.apply(candidate, Lighten(keep_classes=(3, 1)), Context())
    # Then they are answered as before, without it
    assert torch.allclose(answers(made.module, x), wanted, atol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in made.module.modules())


@pytest.mark.parametrize("tail", [nn.Softmax(1), nn.LogSoftmax(1), nn.LayerNorm(4), nn.Unflatten(1, (2, 2))])
def test_what_mixes_the_classes_is_refused(tail: nn.Module) -> None:
    # Given a network that compares its classes behind the last layer / When some shall be kept / Then it is refused
    with pytest.raises(UnfitModel, match=r"^Behind .*\.$") as caught:
        check_classifier(followed_by(tail), (0, 1))
    assert caught.value.errors[0].pointer == "/keep_classes"


def test_what_looks_at_each_class_alone_may_stand_behind() -> None:
    # Given a network that bounds each logit / When some classes are kept / Then nothing is said against it
    check_classifier(followed_by(nn.Hardtanh()), (0, 1))


def test_a_last_layer_without_a_row_for_each_class_is_refused() -> None:
    # Given networks whose last layer gives something else, or that have none
    other = followed_by(nn.Linear(4, 6))
    for candidate in (other, candidate_of(nn.Flatten()), candidate_of(nn.GroupNorm(1, 3))):
        # When some classes shall be kept / Then it is refused
        with pytest.raises(UnfitModel, match="last layer"):
            check_classifier(candidate, (0, 1))


def test_a_layer_with_codes_is_refused() -> None:
    # Given a network whose layers have their codes / When some classes shall be kept / Then it says which layer has
    coded = quantize_weights.apply(residual(), QuantizeWeights(), Context())
    with pytest.raises(UnfitModel, match="head has its codes"):
        check_classifier(coded, (0, 1))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (("class 1", "clas 2"), "has no class clas 2. Near to it: class 2"),
        (("class 1", "xyz"), "has no class xyz. There are class 0, class 1"),
        ((1, 4), "no class 4: they go from 0 to 3"),
        (("class 1", 1), "tells the class class 1 twice"),
        ((0, 1, 2, 3), "keeps all 4 classes"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(wanted: tuple[str | int, ...], said: str) -> None:
    # Given a network with named classes / When others shall be kept, or all / Then the sentence says what there is
    with pytest.raises(ClassesMismatch, match=said) as caught:
        lighten.preflight(residual(), Lighten(keep_classes=wanted))
    assert caught.value.errors[0].pointer == "/keep_classes"
