"""The length of a file is told before it is written."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compressor.measure.file_size import safetensors_bytes, tensors_file
from contract.cost import CHANNELS, CLASSES
from tests.unit.compressor.networks import Residual


class _Tied(nn.Module):
    """One table used twice, a flag, and a buffer that is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 3)
        self.back = nn.Linear(3, 7, bias=False)
        self.back.weight = self.table.weight
        self.register_buffer("flags", torch.ones(5, dtype=torch.bool))
        self.register_buffer("passing", torch.ones(100), persistent=False)


def test_it_is_as_long_as_it_is_told(tmp_path: Path) -> None:
    # Given a network with counters and statistics / When its state_dict is written / Then the file has these bytes
    module = Residual()
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    assert safetensors_bytes(module) == (tmp_path / "a.safetensors").stat().st_size
    with torch.device("meta"):
        assert safetensors_bytes(Residual()) == safetensors_bytes(module)


def test_what_is_shared_is_there_once(tmp_path: Path) -> None:
    # Given two layers with one table / When it is written once / Then the file has these bytes
    module = _Tied()
    save_file({k: v for k, v in module.state_dict().items() if k != "back.weight"}, tmp_path / "b.safetensors")
    assert safetensors_bytes(module) == (tmp_path / "b.safetensors").stat().st_size


def _convolutional(channels: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    )


@pytest.mark.parametrize(("channels", "classes"), [(1, 7), (3, 1000), (1, 99_999), (3, 10)])
def test_its_length_with_other_channels_and_classes_follows(channels: int, classes: int, tmp_path: Path) -> None:
    # Given a network for colours and a thousand classes, and the same with fewer of both
    told = tensors_file(_convolutional(CHANNELS, CLASSES), _convolutional(1, 990), channels=1, classes=990)
    # When it is written with others / Then the file has the bytes that follow
    save_file(_convolutional(channels, classes).state_dict(), tmp_path / "c.safetensors")
    assert told.at(channels, classes) == (tmp_path / "c.safetensors").stat().st_size
