"""First layers that cross blocks of pixels."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import onnx
import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.methods.quantize_static import apply as quantize_static
from compressor.quantization.simulate import simulated
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import answers, candidate_of, inputs_for, onnx_answers
from tests.unit.compressor.processors import needs_exact_sums
from tests.unit.compressor.quantization.steps import with_images


class _Stems(nn.Module):
    """First layers side by side over one image of 16 pixels."""

    def __init__(self, stems: Iterable[nn.Conv2d]) -> None:
        super().__init__()
        self.stems = nn.ModuleList(stems)
        self.head = nn.Linear(sum(stem.out_channels for stem in self.stems), 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 16, 16) to (N, 4)."""
        return self.head(torch.cat([torch.relu(stem(x)).mean((2, 3)) for stem in self.stems], 1))


def network(stems: Callable[[], Iterable[nn.Conv2d]]) -> Candidate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return candidate_of(_Stems(stems()), size=16)


def in_blocks() -> Iterable[nn.Conv2d]:
    """As ResNet, MobileNet, vision transformers and PVT begin, and one of unlike sides."""
    yield nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
    yield nn.Conv2d(3, 8, 3, stride=2, padding=1)
    yield nn.Conv2d(3, 8, 4, stride=4)
    yield nn.Conv2d(3, 8, 7, stride=4, padding=2)
    yield nn.Conv2d(3, 8, (3, 5), stride=2, padding=(0, 2))


def otherwise() -> Iterable[nn.Conv2d]:
    """Every pixel; an image that leaves a rest; unlike strides; holes; groups."""
    yield nn.Conv2d(3, 8, 3, padding=1)
    yield nn.Conv2d(3, 8, 3, stride=3)
    yield nn.Conv2d(3, 8, 3, stride=(2, 1), padding=1)
    yield nn.Conv2d(3, 8, 3, stride=2, dilation=2, padding=2)
    yield nn.Conv2d(3, 9, 3, stride=2, padding=1, groups=3)


def convolutions(path: Path) -> list[tuple[list[int], list[int]]]:
    """Strides and kernels, in order."""
    model = onnx.load(path)
    shapes = {value.name: list(value.dims) for value in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    return [
        (list(onnx.helper.get_node_attr_value(node, "strides")), shapes[made[node.input[1]].input[0]])
        for node in model.graph.node
        if node.op_type == "Conv"
    ]


@needs_exact_sums
@pytest.mark.parametrize("target", ["x86-vnni", "arm64"])
def test_a_first_layer_with_integers_crosses_blocks_and_answers_as_planned(
    target: Literal["x86-vnni", "arm64"], tmp_path: Path
) -> None:
    # Given strided convolutions over three channels, in integers
    candidate = network(in_blocks)
    made = quantize_static(candidate, QuantizeStatic(target=target, all_layers=True), with_images(candidate))
    x = inputs_for(made, 3)
    # When they are written
    path = export(made, tmp_path / "model.onnx")
    # Then each has stride 1, over as many more channels as a block has pixels
    shapes = [[8, 12, 4, 4], [8, 12, 2, 2], [8, 48, 1, 1], [8, 48, 3, 3], [8, 12, 2, 3]]
    assert convolutions(path) == [([1, 1], shape) for shape in shapes]
    # And the runtime answers what was planned, in integers where they are for this processor
    assert torch.allclose(onnx_answers(path, x), answers(simulated(made), x), atol=1e-5)
    assert target == "arm64" or int8_macs_fraction(path) == 1.0


def test_what_does_not_consist_of_blocks_stays(tmp_path: Path) -> None:
    # Given first layers whose strides, image, holes or groups forbid it
    candidate = network(otherwise)
    made = quantize_static(candidate, QuantizeStatic(), with_images(candidate))
    # When they are written, then their filters are what they were
    written = convolutions(export(made, tmp_path / "model.onnx"))
    assert written == [(list(stem.stride), list(stem.weight.shape)) for stem in candidate.module.stems]


def test_floats_stay(tmp_path: Path) -> None:
    # Given a network in float32
    candidate = network(in_blocks)
    # When it is written, then nothing lies in blocks
    nodes = onnx.load(export(candidate, tmp_path / "model.onnx")).graph.node
    assert not [node for node in nodes if node.op_type == "SpaceToDepth"]
