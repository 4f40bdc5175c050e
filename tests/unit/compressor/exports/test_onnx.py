"""A candidate as an ONNX file."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.onnx._internal.exporter import _registration as exporter

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports import onnx as onnx_export
from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.exports.onnx_zip import graph_file
from compressor.methods.cast import apply as cast
from compressor.methods.quantize_static import apply as quantize_static
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed
from contract.methods.cast import Cast
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import answers, candidate_of, inputs_for, onnx_answers, residual
from tests.unit.compressor.quantization.steps import with_images


def test_a_float_file_answers_as_the_network(tmp_path: Path) -> None:
    # Given a network, in training mode as a training step may leave it
    candidate = residual()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    candidate.module.train()
    # When it is written
    path = export(candidate, tmp_path / "model.onnx")
    # Then the runtime gives the network's answers, for batches of five and of one
    assert torch.allclose(onnx_answers(path, x), wanted, atol=1e-5)
    assert torch.allclose(onnx_answers(path, x[:1]), wanted[:1], atol=1e-5)


def test_the_file_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    # Given a written network
    candidate = residual()
    model = onnx.load(export(candidate, tmp_path / "model.onnx"))
    # Then the batch is free, and preprocessing and class names are in the file
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]) == (
        "image",
        ["batch", 3, 8, 8],
    )
    assert (logits.name, [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim]) == (
        "logits",
        ["batch", 4],
    )
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["modelpress.preprocessing"]) == json.loads(candidate.preprocessing.model_dump_json())
    assert tuple(json.loads(told["modelpress.classes"])) == candidate.classes
    assert told["modelpress.format_version"] == "1"
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 20}


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        (residual, OutputPrecision.AS_PLANNED),
        (residual, OutputPrecision.FLOAT16),
        (lambda: quantize_static(residual(), QuantizeStatic(), with_images(residual())), OutputPrecision.AS_PLANNED),
        (lambda: cast(residual(), Cast(), Context()), OutputPrecision.AS_PLANNED),
    ],
    ids=["float32", "float16", "int8", "halves"],
)
def test_the_same_candidate_gives_the_same_bytes_without_a_trace_of_the_machine(
    tmp_path: Path, form: Callable[[], Candidate], precision: OutputPrecision
) -> None:
    # Given a network
    candidate = form()
    # When it is written twice
    paths = (tmp_path / name for name in ("a.onnx", "b.onnx"))
    first, second = (export(candidate, path, precision=precision).read_bytes() for path in paths)
    # Then the bytes are equal
    assert first == second
    # And no readable run of them is a path, a source file, a module or a stack; x/shape is the computed shape of x
    texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{6,}", first)]
    assert any("dropout" in text or "stem" in text for text in texts)
    suspicious = [t for t in texts if re.search(r"\w/(?!shape)\w|\.py\b|site-packages|pkg\.torch|File \"|torch\.nn", t)]
    assert suspicious == []


def test_a_network_above_the_largest_message_comes_as_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a limit that even a small network exceeds
    monkeypatch.setattr(onnx_export, "LARGEST_MESSAGE", 1)
    candidate = quantize_static(residual(), QuantizeStatic(), with_images(residual()))
    x = inputs_for(candidate, 3)
    # When it is written
    first, second = (export(candidate, tmp_path / name) for name in ("model.onnx", "again.onnx"))
    # Then graph and weights are in a zip, the same bytes each time
    assert first.name == "model.onnx.zip"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["model.onnx", "model.onnx.data"]
    # And the runtime answers with it as it does with a single file
    monkeypatch.undo()
    single = export(candidate, tmp_path / "single.onnx")
    with graph_file(first) as graph:
        assert torch.equal(onnx_answers(graph, x), onnx_answers(single, x))
    assert int8_macs_fraction(first) == int8_macs_fraction(single) == 1.0


class _Unwritable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x[:, 0]).abs()


def test_what_cannot_be_written_is_refused_with_the_operator(tmp_path: Path) -> None:
    # Given a network with an operator that ONNX does not have
    candidate = candidate_of(_Unwritable())
    # When it is written, then the failure names the operator, and no half-written file is left
    with pytest.raises(ExportFailed, match="linalg_eig"):
        export(candidate, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_torch_knows_of_operators_is_read_for_the_first_file_only(tmp_path: Path) -> None:
    # Given a file that was written
    export(candidate_of(nn.Flatten()), tmp_path / "first.onnx")
    first = exporter.onnxscript_apis.get_torchlib_ops()
    # When another one is / Then the exporter takes what was read for the first
    export(candidate_of(nn.Flatten()), tmp_path / "second.onnx")
    assert exporter.onnxscript_apis.get_torchlib_ops() is first
