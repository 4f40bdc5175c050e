"""Files for ARM, in which codes of activations are int8."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply as quantize_static
from compressor.methods.quantize_weights import apply as quantize_weights
from compressor.quantization.simulate import simulated
from contract.methods.low_bit import QuantizeWeights, Scheme
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from tests.unit.compressor.networks import answers, candidate_of, inputs_for, onnx_answers, with_statistics
from tests.unit.compressor.processors import needs_exact_sums
from tests.unit.compressor.quantization.steps import with_images


def network() -> Candidate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stem, middle = (nn.Sequential(nn.Conv2d(n, 16, 3), nn.BatchNorm2d(16), nn.ReLU()) for n in (3, 16))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
        return candidate_of(with_statistics(nn.Sequential(stem, middle, head)))


@needs_exact_sums
@pytest.mark.parametrize("bits", [5, 8])
def test_indices_into_a_codebook_stay_beside_activations_for_arm(bits: int, tmp_path: Path) -> None:
    # Given a network one layer of which has its weights looked up, and the rest integers for ARM
    params = QuantizeWeights(bits=bits, scheme=Scheme.CODEBOOK, include=("1.0",), all_layers=True, recalibrate=False)
    stored = quantize_weights(network(), params, Context())
    made = quantize_static(stored, QuantizeStatic(target="arm64", exclude=("1.0",)), with_images(stored))
    x = inputs_for(made)
    # When it is written
    path = export(made, tmp_path / "model.onnx")
    # Then the runtime answers as the simulation does
    assert torch.allclose(onnx_answers(path, x), answers(simulated(made), x), atol=1e-4)


@needs_exact_sums
def test_a_layer_that_codes_its_input_as_it_comes_stays_beside_activations_for_arm(tmp_path: Path) -> None:
    # Given a network whose last layer quantizes its input as it runs, and the rest integers for ARM
    dynamic = quantize_dynamic(network(), QuantizeDynamic(include=("2.2",)), Context())
    made = quantize_static(dynamic, QuantizeStatic(target="arm64", exclude=("2.2",)), with_images(dynamic))
    x = inputs_for(made)
    # When it is written
    path = export(made, tmp_path / "model.onnx")
    # Then the runtime loads it and answers as the simulation does, for one image as for many
    assert torch.allclose(onnx_answers(path, x[:1]), answers(simulated(made), x[:1]), atol=1e-4)
    assert torch.allclose(onnx_answers(path, x), answers(simulated(made), x), atol=1e-4)
