"""The length of a file is told before it is written."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from compressor.measure.file_size import safetensors_bytes
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
