"""INT8 weights and activations quantized as they come."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.methods.quantize_dynamic import apply, preflight
from compressor.quantization.simulate import simulated
from contract.failures import AlreadyQuantized, NothingToQuantize
from contract.methods.quantize import QuantizeDynamic
from tests.unit.compressor.networks import Recurrent, answers, candidate_of, inputs_for, named, onnx_answers
from tests.unit.compressor.quantization.steps import Told


def _perceptron() -> Candidate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return candidate_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 4, bias=False)))


def test_of_resnet18_only_the_classifier_is_touched_and_the_step_says_so(tmp_path: Path) -> None:
    # Given a ResNet-18 with a thousand classes, and its float32 file
    candidate, told = named("resnet18", size=32, num_classes=1000), Told()
    original = export(candidate, tmp_path / "float.onnx").stat().st_size
    convolution = candidate.module.conv1.weight.clone()
    # When it is quantized dynamically
    candidate = apply(candidate, QuantizeDynamic(), told.context())
    path = export(candidate, tmp_path / "model.onnx")
    # Then the classifier alone has codes, and the file is about three percent smaller
    assert candidate.plan.layers == {"fc"}
    assert torch.equal(candidate.module.conv1.weight, convolution)
    assert 0.96 < path.stat().st_size / original < 0.975
    # And the step says how little that is
    assert told.records["layers"] == ["fc"]
    assert told.records["share_of_parameters"] == pytest.approx(512_000 / 11_689_512, rel=1e-3)
    assert "4.38%" in told.notices["little_to_quantize"]
    # And simulation and file agree
    x = inputs_for(candidate, 8)
    assert torch.allclose(answers(simulated(candidate), x), onnx_answers(path, x), atol=1e-3)


@pytest.mark.parametrize("per_channel", [True, False])
def test_linear_layers_run_in_integers_whatever_comes(per_channel: bool, tmp_path: Path) -> None:
    # Given a network of linear layers, with and without bias
    candidate = _perceptron()
    x = inputs_for(candidate, 16)
    before = answers(candidate.module, x)
    # When it is quantized, without any data
    candidate = apply(candidate, QuantizeDynamic(per_channel=per_channel), Context())
    path = export(candidate, tmp_path / "model.onnx")
    # Then all products are of integers, and the file does what the simulation does
    assert int8_macs_fraction(path) == 1.0
    assert candidate.plan.dynamic == {"1.weight", "3.weight"}
    planned = answers(simulated(candidate), x)
    assert torch.allclose(planned, onnx_answers(path, x), atol=1e-4)
    assert float((planned - before).abs().max()) < 0.05 * float(before.abs().max())
    # And inputs a thousand times as large, or all zero, are no harder
    for other in (x * 1000, torch.zeros_like(x)):
        wanted = answers(simulated(candidate), other)
        assert torch.allclose(wanted, onnx_answers(path, other), atol=1e-4 * max(1, float(wanted.abs().max())))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(24, 32, batch_first=True),
        nn.GRU(24, 32, batch_first=True),
        nn.LSTM(24, 32, batch_first=True, num_layers=2),
    ],
    ids=["lstm", "gru", "two lstms"],
)
def test_recurrent_layers_are_stored_in_bytes(layer: nn.LSTM | nn.GRU, tmp_path: Path) -> None:
    # Given a network with a recurrent layer, and its float32 file
    candidate, told = candidate_of(Recurrent(layer)), Told()
    x = inputs_for(candidate, 6)
    before = answers(candidate.module, x)
    original = export(candidate, tmp_path / "float.onnx").stat().st_size
    # When it is quantized
    candidate = apply(candidate, QuantizeDynamic(), told.context())
    path = export(candidate, tmp_path / "model.onnx")
    # Then its weights take a byte each, and the step says that the runtime widens them
    assert path.stat().st_size < 0.5 * original
    assert told.records["layers"] == ["rnn", "head"]
    assert told.records["weights_widened_to_run"] == ["rnn"]
    # And simulation and file agree, and are near to the original
    planned = answers(simulated(candidate), x)
    assert torch.allclose(planned, onnx_answers(path, x), atol=1e-4)
    assert 0 < float((planned - before).abs().max()) < 0.05 * float(before.abs().max())


def test_a_network_without_such_a_layer_is_refused() -> None:
    # Given a network of convolutions
    candidate = candidate_of(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()))
    # When it is to be quantized dynamically, then it is refused, early and late
    with pytest.raises(NothingToQuantize):
        preflight(candidate, QuantizeDynamic())
    with pytest.raises(NothingToQuantize):
        apply(candidate, QuantizeDynamic(), Context())


def test_a_layer_gets_its_codes_once() -> None:
    # Given a quantized network
    candidate = apply(_perceptron(), QuantizeDynamic(), Context())
    # When it is quantized again, then the layer is named
    with pytest.raises(AlreadyQuantized) as refused:
        apply(candidate, QuantizeDynamic(), Context())
    assert refused.value.layer == "1"
