"""A candidate in float16, in every format."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto
from safetensors.torch import load_file
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.delivery import deliver, deliver_all
from compressor.exports.openvino_nncf import Unquantized
from compressor.exports.openvino_runtime import open_file
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.models import files
from contract.artifact import OutputFormat, OutputPrecision
from contract.failures import ExportFailed
from contract.methods.quantize import QuantizeDynamic
from contract.spec import Output
from tests.unit.compressor.networks import (
    Recurrent,
    answers,
    candidate_of,
    gated,
    inputs_for,
    named,
    onnx_answers,
    residual,
    unusual,
)

FLOAT16 = OutputPrecision.FLOAT16


def recurrent() -> Candidate:
    return candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True)))


def written(candidate: Candidate, form: OutputFormat, folder: Path) -> Path:
    return deliver(candidate, Output(format=form, precision=FLOAT16), folder).main


@pytest.mark.parametrize("network", [residual, gated, unusual, recurrent])
def test_onnx_and_openvino_take_and_give_float32_and_compute_in_float16(
    tmp_path: Path, network: Callable[[], Candidate]
) -> None:
    # Given a network / When it is written in float16 in both formats
    candidate = network()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    path, graph = (written(candidate, form, tmp_path) for form in (OutputFormat.ONNX, OutputFormat.OPENVINO))
    assert (path.name, graph.name) == ("model.float16.onnx", "model.float16.xml")
    # Then the runtimes answer within what float16 allows, for batches of five and of one
    for batch in (x, x[:1]):
        expected = answers(candidate.module, batch)
        for found in (onnx_answers(path, batch), torch.from_numpy(open_file(graph, 1)(batch.numpy()))):
            assert torch.allclose(found, expected, atol=1e-2 * float(wanted.abs().max()))
    # And between the image and the logits there is no float32 at all
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    assert {t.data_type for t in model.graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert {v.type.tensor_type.elem_type for v in model.graph.value_info} <= {TensorProto.FLOAT16, TensorProto.INT64}
    ends = (*model.graph.input, *model.graph.output)
    assert {v.type.tensor_type.elem_type for v in ends} == {TensorProto.FLOAT}
    # And the candidate is what it was
    assert {p.dtype for p in candidate.module.parameters()} == {torch.float32}
    assert torch.equal(answers(candidate.module, x), wanted)


def test_safetensors_hold_halves_that_rebuild_the_network(tmp_path: Path) -> None:
    # Given a network / When it is written in float16
    candidate = named("squeezenet1_1", size=32)
    delivery = deliver(candidate, Output(format=OutputFormat.SAFETENSORS, precision=FLOAT16), tmp_path)
    assert [path.name for path in delivery.files.values()] == ["model.float16.safetensors", "model.float16.json"]
    # Then every parameter has two bytes
    stored = load_file(delivery.main)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    # And what a user loads answers within what float16 allows
    for name, path in delivery.files.items():
        path.rename(tmp_path / name)
    x = inputs_for(candidate, 4)
    wanted = answers(candidate.module, x)
    assert torch.allclose(answers(files.load_model(tmp_path), x), wanted, atol=1e-2 * float(wanted.abs().max()))


@pytest.mark.parametrize("form", [OutputFormat.ONNX, OutputFormat.OPENVINO, OutputFormat.SAFETENSORS])
@pytest.mark.parametrize("tensor", ["head.weight", "stem.1.running_var"])
def test_a_number_that_float16_does_not_have_is_refused_by_name(
    tmp_path: Path, form: OutputFormat, tensor: str
) -> None:
    # Given a network with one number of 70,000 / When it is written, then the failure names the tensor
    candidate = residual()
    candidate.module.state_dict()[tensor].view(-1)[1] = -70_000
    with pytest.raises(ExportFailed, match=rf"{tensor} has values up to 70000, and float16 ends at 65504"):
        written(candidate, form, tmp_path)
    assert list(tmp_path.iterdir()) == []


class _Directions(nn.Module):
    """Looks at the direction of a vector that is zero for a black image."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.normalize(x.mean((2, 3)), dim=1)) + x.sum() / (x.square().sum() + 1e-9)


def test_no_divisor_becomes_zero(tmp_path: Path) -> None:
    # Given a network that divides by numbers that only 1e-12 and 1e-9 keep from being zero
    candidate = candidate_of(_Directions())
    black = torch.zeros(2, 3, 8, 8)
    # When it is written in float16, then it answers as it should
    found = onnx_answers(written(candidate, OutputFormat.ONNX, tmp_path), black)
    assert torch.allclose(found, answers(candidate.module, black), atol=1e-3)


class _Attention(nn.Module):
    """Torch's attention, which transposes batch and tokens before it multiplies them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 2, batch_first=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 1, 3).flatten(2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_onnx_runtime_survives_attention(tmp_path: Path) -> None:
    # Given attention in float16 / When ONNX Runtime loads it as everybody does, in a process that may die of it
    candidate = candidate_of(_Attention())
    path = written(candidate, OutputFormat.ONNX, tmp_path)
    code = f"import onnxruntime; onnxruntime.InferenceSession({str(path)!r})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # Then it answers as it should
    x = inputs_for(candidate, 3)
    wanted = answers(candidate.module, x)
    assert torch.allclose(onnx_answers(path, x), wanted, atol=1e-2 * float(wanted.abs().max()))


def nothing() -> Unquantized:
    raise AssertionError("The plan's own codes were asked for")


def test_every_precision_is_a_file_of_its_own_made_without_the_plan(tmp_path: Path) -> None:
    # Given a network with integers, and one without
    plain, coded = residual(), quantize_dynamic(residual(), QuantizeDynamic(), Context())
    outputs = [Output(format=OutputFormat.ONNX, precision=precision) for precision in OutputPrecision]
    for name, candidate, wanted in (
        ("plain", plain, {"model.onnx", "model.float16.onnx"}),
        ("coded", coded, {"model.onnx", "model.float32.onnx", "model.float16.onnx"}),
    ):
        (tmp_path / name).mkdir()
        # When every precision is asked for
        deliveries = deliver_all(candidate, outputs, tmp_path / name, nothing)
        # Then each is there once
        assert {delivery.main.name for delivery in deliveries} == wanted
    # And only what is planned has integers
    large = {d.main.name: [t for t in onnx.load(d.main).graph.initializer if math.prod(t.dims) > 1] for d in deliveries}
    with_codes = {name for name, tensors in large.items() if any(t.data_type == TensorProto.INT8 for t in tensors)}
    assert with_codes == {"model.onnx"}
