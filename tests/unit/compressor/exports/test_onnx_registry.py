"""What torch's exporter is spared."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from compressor.candidate import Candidate
from compressor.exports.onnx import export
from compressor.models.architectures import build
from contract.model import Architecture
from tests.unit.compressor.networks import answers, candidate_of, inputs_for, onnx_answers, residual


class Unlike(nn.Module):
    """A convolution, and behind it what is unlike in each test."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.conv, self.part, self.head = nn.Conv2d(3, 8, 3, padding=1), part, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        return self.head(self.part(self.conv(x)).mean((2, 3)))


class Overwriting(nn.Module):
    """Overwrites half of what somebody reads later."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y = x * 2
        y[:, ::2] += 1
        return y + x


class Shaped(nn.Module):
    """Takes the shape of another tensor."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return x.flatten(1).reshape_as(x) * 2


def unlike(part: Callable[[], nn.Module]) -> Candidate:
    torch.manual_seed(0)
    return candidate_of(Unlike(part()))


def built(name: str) -> Candidate:
    architecture = Architecture(library="timm", name=name, options={"num_classes": 4})
    return candidate_of(build(architecture, seed=0))


@pytest.mark.parametrize(
    "make",
    [
        residual,
        lambda: built("test_resnet"),
        lambda: built("test_efficientnet"),
        lambda: unlike(lambda: nn.BatchNorm2d(8, affine=False)),
        lambda: unlike(lambda: nn.Dropout(inplace=True)),
    ],
    ids=["residual", "resnet", "efficientnet", "normalized alone", "dropout"],
)
def test_a_network_of_translated_operators_is_not_run_again(
    make: Callable[[], Candidate], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given an exporter that cannot decompose
    monkeypatch.delattr(ExportedProgram, "run_decompositions")
    candidate = make()
    x = inputs_for(candidate, 3)
    # When a network is written whose operators all have translations / Then the file answers as the network
    path = export(candidate, tmp_path / "model.onnx")
    assert torch.allclose(onnx_answers(path, x), answers(candidate.module, x), atol=1e-5)


@pytest.mark.parametrize(
    "part",
    [
        Overwriting,
        Shaped,
        lambda: nn.AdaptiveAvgPool2d(2),
        lambda: nn.BatchNorm2d(8, track_running_stats=False),
        lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
    ],
    ids=["overwriting", "shaped", "pool", "by batch", "bicubic"],
)
def test_other_operators_are_decomposed(part: Callable[[], nn.Module], tmp_path: Path) -> None:
    # Given a network with an operator that is to be decomposed, or that overwrites
    candidate = unlike(part)
    x = inputs_for(candidate, 3)
    # When it is written / Then the file answers as the network
    path = export(candidate, tmp_path / "model.onnx")
    assert torch.allclose(onnx_answers(path, x), answers(candidate.module, x), atol=1e-5)
