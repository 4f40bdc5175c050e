"""Lighter layers: exact ones answer the same, fitted ones nearly, and all that follows works on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.measure.accuracy import accuracy
from compressor.measure.accuracy import answers as answers_to
from compressor.measure.counting import count_macs
from compressor.methods import fine_tune, lighten, prune_channels, prune_weights, quantize_static
from compressor.models import files
from compressor.quantization.simulate import simulated
from contract.failures import Failure, NoLayerMatches, UnfitModel
from contract.methods.lighten import Lighten
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeStatic
from contract.methods.train import FineTune
from tests.unit.compressor.networks import (
    answers,
    candidate_of,
    gated,
    inputs_for,
    named,
    onnx_answers,
    residual,
)
from tests.unit.compressor.quantization.steps import Told
from tests.unit.compressor.small_jobs import images, trained_candidate


class Functional(nn.Module):
    """Activations as a module, and as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.gelu = nn.GELU()
        self.again = nn.Sequential(self.gelu)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = nn.functional.gelu(self.again(self.second(self.gelu(self.first(x)))))
        return nn.functional.gelu(x.mean((2, 3)))


def lightened(candidate: Candidate, context: Context | None = None, **params: Any) -> Candidate:
    return lighten.apply(candidate, Lighten.model_validate(params), context or Context())


def exact(**params: Any) -> dict[str, Any]:
    """Only these ways, and no other."""
    return {"fold_batch_norm": False, "remove_dead": False} | params


def with_data(told: Told | None = None) -> Context:
    """A context with images of the small trained network's task."""
    data = images(96, seed=3)
    return (told or Told()).context(Context(train=data, calibration=data))


def rebuilt(candidate: Candidate, folder: Path) -> Candidate:
    files.write(candidate, folder)
    return files.read(folder)


def test_by_default_it_answers_the_same_without_batch_normalization(tmp_path: Path) -> None:
    # Given a network with statistics of a training / When it is lightened by what is exact
    candidate = named("mobilenet_v3_small", size=32)
    x = inputs_for(candidate, 4)
    wanted, told = answers(candidate.module, x), Told()
    made = lightened(candidate, told.context())
    # Then it answers the same, rebuilt too, and has neither normalization nor dropout
    assert torch.allclose(answers(made.module, x), wanted, atol=1e-5 * float(wanted.abs().max()))
    assert torch.equal(answers(rebuilt(made, tmp_path).module, x), answers(made.module, x))
    assert not any(isinstance(part, nn.BatchNorm2d | nn.Dropout) for part in made.module.modules())
    assert told.records["macs_left"] == 1
    assert "layers_left_alone" not in told.records


def test_masked_weights_stay_zero_where_normalization_is_folded() -> None:
    # Given pruned weights / When normalization is folded into them
    pruned = prune_weights.apply(trained_candidate(), PruneWeights(amount=0.5, recalibrate=False), Context())
    x = inputs_for(pruned)
    wanted = answers(pruned.module, x)
    made = lightened(pruned)
    # Then what is masked is zero, and the network answers the same
    assert torch.allclose(answers(made.module, x), wanted, atol=1e-5 * float(wanted.abs().max()))
    for name, mask in made.masks.items():
        assert not made.module.get_parameter(name)[~mask].any()


def test_fitted_layers_are_nearer_than_those_that_only_begin(tmp_path: Path) -> None:
    # Given a trained network / When its convolutions become separable, with images and without
    data = images(400, seed=9)
    original, told = trained_candidate(), Told()
    begun = lightened(trained_candidate(), separable=True, recalibrate=False)
    made = lightened(trained_candidate(), with_data(told), separable=True)
    # Then each is nearer to the original behind the fit, and so is the network
    layers: Any = told.records["layers"]
    assert len(layers) > 3
    for layer in layers.values():
        assert layer["became"] == "separable"
        assert layer["macs"][1] < layer["macs"][0]
        assert layer["output_error"][1] < layer["output_error"][0]
    right = [
        accuracy(answers_to(one.module, data, device=torch.device("cpu")), data.labels).value
        for one in (original, begun, made)
    ]
    assert right[2] > right[1] + 0.1
    assert right[2] > right[0] - 0.15
    # And what it says of the whole is true, of what is rebuilt too
    again = rebuilt(made, tmp_path)
    before, after = (count_macs(one.module, one.input_shape).total for one in (original, again))
    assert told.records["macs_left"] == after / before
    assert after < 0.7 * before
    assert told.records["layers_left_alone"].keys()  # type: ignore[union-attr]


def test_more_filters_a_channel_are_nearer() -> None:
    x = inputs_for(trained_candidate())
    wanted = answers(trained_candidate().module, x)
    errors = [
        float(
            (
                answers(
                    lightened(trained_candidate(), with_data(), separable=("*conv2",), depth_multiplier=n).module, x
                )
                - wanted
            ).norm()
        )
        for n in (1, 3)
    ]
    assert errors[1] < errors[0]


def test_large_kernels_become_small_ones_where_that_pays() -> None:
    # Given a network with 5x5 depthwise convolutions, some with a stride / When they become 3x3
    candidate, told = named("mobilenet_v3_small", size=32), Told()
    made = lightened(candidate, told.context(), **exact(small_kernels=True))
    layers, left = told.records["layers"], told.records["layers_left_alone"]
    # Then those without a stride have, and the others say why not
    assert isinstance(layers, dict)
    assert isinstance(left, dict)
    assert len(layers) == 6
    assert left == dict.fromkeys(left, "small_kernels: takes no fewer MACs so")
    assert len(left) == 2
    assert {p.kernel_size for n in layers for p in made.module.get_submodule(n)} == {(3, 3)}  # type: ignore[attr-defined]
    assert told.records["macs_left"] < 1  # type: ignore[operator]


def test_activations_are_replaced_where_they_are_modules(tmp_path: Path) -> None:
    # Given a network of hard swish, SiLU and hard sigmoid / When two are replaced
    told = Told()
    made = lightened(gated(), told.context(), **exact(activations={"silu": "hardswish", "hardswish": "relu"}))
    # Then each is what was asked for, none twice
    assert told.records["activations"] == {"stem.2": ["hardswish", "relu"], "expand.2": ["silu", "hardswish"]}
    assert type(made.module.get_submodule("stem.2")) is nn.ReLU
    assert type(made.module.get_submodule("expand.2")) is nn.Hardswish
    assert not told.notices


def test_activations_of_forward_methods_are_told() -> None:
    # Given a network with one GELU as a module of two names, and two in its forward method / When all shall go
    told = Told()
    lightened(candidate_of(Functional()), told.context(), **exact(activations={"gelu": "relu"}))
    # Then the step says how many it has not reached
    assert told.records["activations"] == {"gelu": ["gelu", "relu"], "again.0": ["gelu", "relu"]}
    assert told.records["functional_activations"] == {"gelu": 2}
    assert "gelu (2)" in told.notices["layers_left_alone"]


@pytest.mark.parametrize(
    ("params", "failure", "sentence", "pointer"),
    [
        ({"activations": {"gelu": "relu"}}, UnfitModel, "relu", "/activations"),
        ({"small_kernels": True}, UnfitModel, "kernels of 1x1, 3x3", "/small_kernels"),
        ({"separable": ("no.such",)}, NoLayerMatches, "no.such", "/separable"),
        ({"include": ("no.such",)}, NoLayerMatches, "no.such", "/include"),
    ],
)
def test_what_the_network_does_not_have_is_refused_before_the_work(
    params: dict[str, Any], failure: type[Failure], sentence: str, pointer: str
) -> None:
    with pytest.raises(failure, match=sentence) as caught:
        lighten.preflight(residual(), Lighten.model_validate(params))
    assert caught.value.errors[0].pointer == pointer


def test_a_network_in_which_nothing_can_be_done_says_what_it_has() -> None:
    with pytest.raises(UnfitModel, match=r"Linear \(1\)"):
        lightened(replace(residual(), module=nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()))


def test_pruned_convolutions_stay_as_they_are() -> None:
    # Given pruned weights / When the layers that have them shall become separable / Then they are named, and stay
    pruned = prune_weights.apply(trained_candidate(), PruneWeights(amount=0.5, recalibrate=False), Context())
    with pytest.raises(UnfitModel, match="pruned weights, whose zeros would be lost"):
        lightened(pruned, **exact(separable=True))


def test_what_follows_works_on_what_was_put_in(tmp_path: Path) -> None:
    # Given a lightened network with normalization left / When its channels are pruned, it is trained and quantized
    candidate = lightened(trained_candidate(), with_data(), separable=True, fold_batch_norm=False)
    x = inputs_for(candidate, 4)
    candidate = prune_channels.apply(candidate, PruneChannels(ratio=0.25), with_data())
    candidate = fine_tune.apply(candidate, FineTune(epochs=1, batch_size=16), with_data())
    candidate = replace(candidate, module=candidate.module.eval())
    coded = quantize_static.apply(lightened(candidate), QuantizeStatic(), with_data())
    # Then what is written is rebuilt, and ONNX Runtime answers as it does
    wanted = answers(simulated(rebuilt(coded, tmp_path / "files")), x)
    found = onnx_answers(export(coded, tmp_path / "model.onnx"), x)
    assert torch.equal(found.argmax(1), wanted.argmax(1))
