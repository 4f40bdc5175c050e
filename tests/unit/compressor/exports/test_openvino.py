"""A candidate as OpenVINO IR."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports import onnx as onnx_export
from compressor.exports import openvino as openvino_export
from compressor.exports.openvino import write
from compressor.exports.openvino_runtime import open_file, openvino
from compressor.exports.openvino_swish import joined
from compressor.methods.cast import apply as cast
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply as quantize_static
from compressor.quantization.simulate import simulated
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed
from contract.methods.cast import Cast
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from tests.unit.compressor.networks import answers, candidate_of, gated, inputs_for, residual, unusual
from tests.unit.compressor.quantization.steps import with_images


def quantized(candidate: Candidate) -> Candidate:
    return quantize_static(candidate, QuantizeStatic(), with_images(candidate))


def openvino_answers(path: Path, x: Tensor) -> Tensor:
    return torch.from_numpy(open_file(path, 1)(x.numpy()))


@pytest.mark.parametrize("network", [residual, gated])
def test_a_float_file_answers_as_the_network(tmp_path: Path, network: Callable[[], Candidate]) -> None:
    # Given a network, in training mode as a training step may leave it
    candidate = network()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    candidate.module.train()
    # When it is written
    files = write(candidate, tmp_path, "model.float32")
    # Then there are a graph and weights, and nothing else
    assert list(files) == ["model.float32.xml", "model.float32.bin"]
    assert set(files.values()) == set(tmp_path.iterdir())
    # And the runtime gives the network's answers, for batches of five and of one, from weights of float32
    graph, weights = files.values()
    assert torch.allclose(openvino_answers(graph, x), wanted, atol=1e-5)
    assert torch.allclose(openvino_answers(graph, x[:1]), wanted[:1], atol=1e-5)
    assert weights.stat().st_size > 0.9 * 4 * sum(p.numel() for p in candidate.module.parameters())


@pytest.mark.parametrize("network", [residual, unusual])
def test_an_int8_file_answers_as_the_simulation_but_for_its_rounding(
    tmp_path: Path, network: Callable[[], Candidate]
) -> None:
    # Given a quantized network
    candidate = quantized(network())
    x = inputs_for(candidate, 50, seed=7)
    wanted = answers(simulated(candidate), x)
    # When it is written
    graph, _ = write(candidate, tmp_path, "model").values()
    # Then the runtime's answers are as near to those of the simulation as these are to the float network's, or nearer
    error = answers(candidate.module, x) - wanted
    assert (openvino_answers(graph, x) - wanted).square().mean() < 1.5 * error.square().mean()


class _Swishes(nn.Module):
    """A swish, and another of an input that a sum reads too."""

    def __init__(self, swish: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.swish = swish
        self.first = nn.Conv2d(3, 16, 3)
        self.second = nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(self.swish(x) + x)
        return self.head(self.swish(x).mean((2, 3)))


@pytest.mark.parametrize(("swish", "operator"), [(F.hardswish, "HSwish"), (F.silu, "Swish")])
def test_a_swish_whose_input_nobody_else_reads_is_one_operator(
    tmp_path: Path, swish: Callable[[Tensor], Tensor], operator: str
) -> None:
    # Given a quantized network with two swishes, of which one has an input that is read again
    torch.manual_seed(0)
    candidate = quantized(candidate_of(_Swishes(swish)))
    # When it is written
    graph, _ = write(candidate, tmp_path, "model").values()
    # Then the other is an operator of its own, that works on sums which are not rounded yet
    model = openvino().Core().read_model(graph)
    whole = [node for node in model.get_ordered_ops() if node.get_type_name() == operator]
    assert [node.input_value(0).get_node().get_type_name() for node in whole] == ["Add"]
    # And the file says so, which one of a network without swishes does not
    assert joined(graph)
    plain, _ = write(quantized(residual()), tmp_path, "plain").values()
    assert not joined(plain)


@pytest.mark.parametrize(
    "network", [gated, lambda: candidate_of(_Swishes(F.hardswish)), lambda: candidate_of(_Swishes(F.silu))]
)
def test_an_int8_file_with_swishes_is_as_near_to_the_float_network_as_the_simulation(
    tmp_path: Path, network: Callable[[], Candidate]
) -> None:
    # Given a quantized network with swishes, which the runtime rounds less often than the simulation does
    torch.manual_seed(0)
    candidate = quantized(network())
    x = inputs_for(candidate, 50, seed=7)
    float_answers, wanted = (answers(module, x) for module in (candidate.module, simulated(candidate)))
    # When it is written
    graph, _ = write(candidate, tmp_path, "model").values()
    # Then the runtime's answers are about as far from the float network's as those of the simulation
    found = openvino_answers(graph, x)
    assert (found - float_answers).square().mean() < 1.5 * (wanted - float_answers).square().mean()


@pytest.mark.parametrize("network", [residual, gated])
def test_an_int8_file_answers_one_image_as_it_does_in_a_batch(tmp_path: Path, network: Callable[[], Candidate]) -> None:
    # Given the file of a quantized network, and images
    candidate = quantized(network())
    x = inputs_for(candidate, 8, seed=7)
    graph, _ = write(candidate, tmp_path, "model").values()
    run = open_file(graph, 1)
    # When they are answered together and one by one
    together, alone = (torch.cat([torch.from_numpy(run(part.numpy())) for part in x.split(n)]) for n in (8, 1))
    # Then the answers are the same but for the rounding of codes
    assert torch.allclose(together, alone, atol=0.02 * float(together.abs().max()))


@pytest.mark.parametrize("network", [residual, gated, unusual])
def test_a_file_holds_codes_and_no_work_that_is_the_same_for_every_image(
    tmp_path: Path, network: Callable[[], Candidate]
) -> None:
    # Given a quantized network / When it is written
    candidate = quantized(network())
    graph, weights = write(candidate, tmp_path, "model").values()
    # Then no bias is brought into shape anew for each image
    kinds = {node.get_type_name() for node in openvino().Core().read_model(graph).get_ordered_ops()}
    assert kinds.isdisjoint({"ShapeOf", "Broadcast", "VariadicSplit"})
    # And a weight takes a byte, and what else there is a few numbers for each channel
    coded = sum(weight.codes.numel() for weight in candidate.plan.integers.values())
    channels = sum(len(weight.codes) for weight in candidate.plan.integers.values())
    assert weights.stat().st_size < coded + 20 * channels + 1024


class _Strided(nn.Module):
    """A filter that crosses an image in strides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).relu().mean((2, 3)))


def test_pixels_stay_where_they_are(tmp_path: Path) -> None:
    # Given a network whose pixels ONNX Runtime has in blocks, which costs OpenVINO more than it saves
    candidate = quantized(candidate_of(_Strided()))
    blocks = onnx.load(onnx_export.export(candidate, tmp_path / "model.onnx")).graph.node
    assert "SpaceToDepth" in {node.op_type for node in blocks}
    # When it is written for OpenVINO
    graph, _ = write(candidate, tmp_path, "model").values()
    # Then the filter has its stride
    nodes = openvino().Core().read_model(graph).get_ordered_ops()
    assert "SpaceToDepth" not in {node.get_type_name() for node in nodes}
    assert [list(n.get_attributes()["strides"]) for n in nodes if n.get_type_name() == "Convolution"] == [[2, 2]]


class _Tokens(nn.Module):
    """Patches of an image, and one token more for each image of a batch, whose size the graph must therefore read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        nn.init.normal_(self.patches.bias)
        self.token = nn.Parameter(torch.ones(1, 1, 16))
        self.normal = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head(self.normal(x).mean(1))


def test_every_channel_keeps_its_bias_where_the_size_of_a_batch_is_read(tmp_path: Path) -> None:
    # Given a network that reads the size of its batch, behind a quantized convolution with biases that differ
    torch.manual_seed(0)
    candidate = quantized(candidate_of(_Tokens()))
    x = inputs_for(candidate, 50, seed=7)
    wanted = answers(simulated(candidate), x)
    # When it is written
    graph, _ = write(candidate, tmp_path, "model").values()
    # Then OpenVINO answers as it should
    assert torch.allclose(openvino_answers(graph, x), wanted, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        (residual, OutputPrecision.AS_PLANNED),
        (residual, OutputPrecision.FLOAT16),
        (lambda: quantized(residual()), OutputPrecision.AS_PLANNED),
        (lambda: quantized(gated()), OutputPrecision.AS_PLANNED),
        (lambda: cast(residual(), Cast(), Context()), OutputPrecision.AS_PLANNED),
    ],
)
def test_the_same_candidate_gives_the_same_bytes_without_a_trace_of_the_machine(
    tmp_path: Path, form: Callable[[], Candidate], precision: OutputPrecision
) -> None:
    # Given a network
    candidate = form()
    # When it is written twice
    first, second = (write(candidate, tmp_path, name, precision=precision) for name in ("a", "b"))
    # Then the bytes are equal
    for one, other in zip(first.values(), second.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()
    # And no readable run of them is a path, a source file, a module, a stack or a build
    bytes_ = b"".join(path.read_bytes() for path in first.values())
    texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{6,}", bytes_)]
    assert any("stem" in text for text in texts)
    suspicious = [t for t in texts if re.search(r"/\w+/\w|\.py\b|site-packages|pkg\.torch|File \"|torch\.nn|\.onnx", t)]
    assert suspicious == []


def test_the_file_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    # Given a written network
    candidate = residual()
    graph, _ = write(candidate, tmp_path, "model").values()
    model = openvino().Core().read_model(graph)
    # Then the batch is free, and preprocessing and class names are in the graph
    (image,), (logits,) = model.inputs, model.outputs
    assert (image.get_any_name(), str(image.get_partial_shape())) == ("image", "[?,3,8,8]")
    assert (logits.get_any_name(), str(logits.get_partial_shape())) == ("logits", "[?,4]")
    told = {
        name: model.get_rt_info(["framework", f"modelpress.{name}"]).astype(str)
        for name in ("preprocessing", "classes", "format_version")
    }
    assert json.loads(told["preprocessing"]) == json.loads(candidate.preprocessing.model_dump_json())
    assert tuple(json.loads(told["classes"])) == candidate.classes
    assert told["format_version"] == "1"
    assert model.get_friendly_name() == candidate.architecture.name


class _Determinant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.det(x)


def test_what_cannot_be_written_is_refused_with_the_operator(tmp_path: Path) -> None:
    # Given a network with an operator that OpenVINO does not have
    candidate = candidate_of(_Determinant())
    # When it is written, then the failure names the operator and nothing of the machine, and no file is left
    with pytest.raises(ExportFailed, match="Det") as caught:
        write(candidate, tmp_path, "model")
    assert not re.search(r"\w/\w|\.cpp|\n", caught.value.detail)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_is_used_as_it_cannot_be_is_refused_with_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file whose operator OpenVINO has, but not in this way
    node = helper.make_node(
        "Resize", ["image", "", "scales"], ["logits"], coordinate_transformation_mode="tf_crop_and_resize"
    )
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    scales = helper.make_tensor_value_info("scales", TensorProto.FLOAT, [4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "graph", [image, scales], [logits])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    monkeypatch.setattr(openvino_export.onnx, "export", lambda candidate, into, **how: path)
    # When it is read, then the failure names operator and node
    with pytest.raises(ExportFailed, match="Resize logits"):
        write(residual(), tmp_path, "model")


def test_layers_that_would_be_multiplied_as_floats_are_refused_by_name(tmp_path: Path) -> None:
    # Given a network whose head quantizes its input as it comes
    candidate = quantize_dynamic(residual(), QuantizeDynamic(), Context())
    # When it is written, then the failure names the head
    with pytest.raises(ExportFailed, match="as it comes: head"):
        write(candidate, tmp_path, "model")
