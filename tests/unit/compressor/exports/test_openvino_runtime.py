"""What OpenVINO does in integers, and what it does not tell anyone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.exports import onnx
from compressor.exports.onnx_runtime import runs
from compressor.exports.openvino import write
from compressor.exports.openvino_runtime import int8_macs_fraction, layers
from compressor.measure.counting import count_macs
from compressor.methods.quantize_static import apply as quantize_static
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import Recurrent, candidate_of, residual
from tests.unit.compressor.quantization.steps import with_images


def graph_of(candidate: Candidate, folder: Path) -> Path:
    return next(iter(write(candidate, folder, "model").values()))


def test_a_float_file_does_nothing_in_integers(tmp_path: Path) -> None:
    assert int8_macs_fraction(graph_of(residual(), tmp_path)) == 0.0


def test_a_layer_left_float_is_counted_as_float(tmp_path: Path) -> None:
    # Given a network of which all but one layer is quantized
    candidate = residual()
    macs = count_macs(candidate.module, candidate.input_shape)
    candidate = quantize_static(candidate, QuantizeStatic(exclude=("stem",)), with_images(candidate))
    # When the runtime's integer work is counted
    found = int8_macs_fraction(graph_of(candidate, tmp_path))
    # Then it is what torch counts for the other layers
    assert found == pytest.approx(1 - macs.by_module["stem.0"] / macs.total)
    assert 0.1 < found < 0.9


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 2, batch_first=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.permute(0, 2, 1, 3).flatten(2)
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0][:, -1])


@pytest.mark.parametrize("module", [_Attention(), Recurrent(nn.LSTM(24, 32, batch_first=True))])
def test_every_product_is_counted(tmp_path: Path, module: nn.Module) -> None:
    # Given a network whose products are those of attention, or of a recurrent layer
    candidate = candidate_of(module)
    # When the layers are counted that the runtime makes of it
    found = sum(layer.macs for layer in layers(graph_of(candidate, tmp_path)))
    # Then they are those that ONNX Runtime multiplies
    assert found == sum(run.macs for run in runs(onnx.export(candidate, tmp_path / "model.onnx"))) > 0


def test_loading_openvino_tells_nobody(tmp_path: Path) -> None:
    # Given a fresh interpreter with a home of its own
    code = "import sys; from compressor.exports.openvino_runtime import openvino; openvino().Core(); "
    code += "sys.exit('openvino_telemetry.main' in sys.modules)"
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    # When it loads OpenVINO
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    # Then nothing that reports was loaded, and no id was left
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
