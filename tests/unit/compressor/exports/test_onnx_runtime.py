"""What ONNX Runtime does in integers."""

from pathlib import Path

import pytest

from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.measure.counting import count_macs
from compressor.methods.quantize_static import apply as quantize_static
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import residual
from tests.unit.compressor.quantization.steps import with_images


def test_a_float_file_does_nothing_in_integers(tmp_path: Path) -> None:
    assert int8_macs_fraction(export(residual(), tmp_path / "model.onnx")) == 0.0


def test_a_layer_left_float_is_counted_as_float(tmp_path: Path) -> None:
    # Given a network of which all but one layer is quantized
    candidate = residual()
    macs = count_macs(candidate.module, candidate.input_shape)
    candidate = quantize_static(candidate, QuantizeStatic(exclude=("stem",)), with_images(candidate))
    # When the runtime's integer work is counted
    found = int8_macs_fraction(export(candidate, tmp_path / "model.onnx"))
    # Then it is what torch counts for the other layers
    assert found == pytest.approx(1 - macs.by_module["stem.0"] / macs.total)
    assert 0.1 < found < 0.9
