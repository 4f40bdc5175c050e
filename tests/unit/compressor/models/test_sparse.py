"""Tensors with many zeros take little room, and come back bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.context import Context
from compressor.methods import prune_weights, quantize_static, quantize_weights
from compressor.models.files import load_model, read, write
from compressor.models.sparse import PLACES, VALUES, SparseLayout, packed, unpacked
from contract.failures import InvalidModel
from contract.methods.low_bit import QuantizeWeights
from contract.methods.prune import PruneWeights
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import named
from tests.unit.compressor.small_jobs import images

DOCUMENT = Path(__file__).parents[4] / "docs" / "model-files.md"


def sparse(amount: float, dtype: torch.dtype = torch.float32, size: tuple[int, ...] = (60, 50, 3)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    tensor = (torch.randn(size, generator=generator) * 40).to(dtype)
    return tensor.where(torch.rand(size, generator=generator) >= amount, torch.zeros((), dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.float16, torch.int64])
@pytest.mark.parametrize("amount", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_tensors_come_back_bit_for_bit(dtype: torch.dtype, amount: float) -> None:
    # Given a tensor / When it is packed and unpacked
    tensors = {"w": sparse(amount, dtype), "small": torch.zeros(10), "b": sparse(0.9, size=(13, 101))}
    stored, layouts = packed(tensors)
    back = unpacked(stored, layouts)
    # Then it is the same, and took no more room than before
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert sum(t.nbytes for t in stored.values()) <= sum(t.nbytes for t in tensors.values())


def test_what_only_looks_like_zero_is_kept() -> None:
    # Given NaN, infinity and the smallest number among zeros of both signs / When they are packed and unpacked
    tensor = torch.zeros(2000)
    tensor[::2] = -0.0
    tensor[7], tensor[8], tensor[9] = float("inf"), float("nan"), 1e-45
    stored, layouts = packed({"w": tensor})
    # Then they are bit for bit what they were, and nothing else is stored
    back = unpacked(stored, layouts)["w"]
    assert torch.equal(back[7:10].view(torch.int32), tensor[7:10].view(torch.int32))
    assert torch.equal(back[10:], tensor[10:])
    assert stored["w" + VALUES].numel() == 3


def size_of(amount: float, folder: Path) -> float:
    """Bytes of a pruned ResNet-18's file over those of the dense one."""
    dense, thin = folder / "dense", folder / "thin"
    write(named("resnet18"), dense)
    pruned = prune_weights.apply(named("resnet18"), PruneWeights(amount=amount, importance="random"), Context())
    write(pruned, thin)
    assert torch.equal(read(thin).module.state_dict()["fc.weight"], pruned.module.state_dict()["fc.weight"])
    return (thin / "model.safetensors").stat().st_size / (dense / "model.safetensors").stat().st_size


def test_a_tenth_of_the_weights_takes_an_eighth_of_the_room(tmp_path: Path) -> None:
    # Given a network of which nine weights in ten are zero, at random places
    # Then its file has what theory says: a tenth for the values, and the entropy of the places (0.469 bits of 32)
    assert size_of(0.9, tmp_path) == pytest.approx(0.1 + 0.469 / 32, abs=0.003)


def test_zeros_among_integers_are_not_stored_either(tmp_path: Path) -> None:
    # Given a network with zeros and INT8 codes
    context = Context(calibration=images(32, seed=0))
    pruned = prune_weights.apply(named("squeezenet1_1"), PruneWeights(amount=0.9, recalibrate=False), context)
    made = quantize_static.apply(pruned, QuantizeStatic(), context)
    # When it is written / Then each code's places are stored, and what is loaded computes the same
    write(made, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert any(name.endswith("#codes#values") for name in stored)
    again = read(tmp_path)
    assert all(torch.equal(again.plan.weights[n].codes, w.codes) for n, w in made.plan.weights.items())
    with torch.no_grad():
        assert load_model(tmp_path)(torch.zeros(1, 3, 64, 64)).isfinite().all()


def damaged(stored: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    places, values = stored["w" + PLACES], stored["w" + VALUES]
    return {
        "no values": {"w" + PLACES: places},
        "too few values": stored | {"w" + VALUES: values[:-1]},
        "no deflate": stored | {"w" + PLACES: torch.zeros(9, dtype=torch.uint8)},
        "cut": stored | {"w" + PLACES: places[:-20]},
        "floats": stored | {"w" + PLACES: places.float()},
    }[how]


@pytest.mark.parametrize("how", ["no values", "too few values", "no deflate", "cut", "floats"])
def test_parts_that_do_not_fit_together_are_refused_by_name(how: str) -> None:
    stored, layouts = packed({"w": sparse(0.9)})
    with pytest.raises(InvalidModel, match="sparse tensor w"):
        unpacked(damaged(stored, how), layouts)


def test_a_layout_that_claims_more_than_there_is_takes_no_memory() -> None:
    # Given a layout of a tensor of 4 TiB over a few bytes / When it is read / Then it is refused
    stored, _ = packed({"w": sparse(0.9)})
    huge = {"w": SparseLayout(shape=(1024, 1024, 1024, 1024), places="deflate")}
    with pytest.raises(InvalidModel):
        unpacked(stored, huge)


def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    # Given a written network from which the places of a tensor are taken
    write(prune_weights.apply(named("squeezenet1_1"), PruneWeights(amount=0.9), Context()), tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    save_file({name: t for name, t in stored.items() if not name.endswith(PLACES)}, path)
    # When it is read / Then it says so
    with pytest.raises(InvalidModel):
        read(tmp_path)


def test_the_documented_way_to_read_a_file_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a sparse file, and the lines that docs/model-files.md has for other languages to follow
    pruned = prune_weights.apply(named("squeezenet1_1"), PruneWeights(amount=0.9), Context())
    write(pruned, tmp_path)
    lines = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    # When they are run beside it / Then they find every weight
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    for name, tensor in pruned.module.state_dict().items():
        assert np.array_equal(found["tensors"][name], tensor.numpy())


@pytest.mark.parametrize("how", [{"bits": 1}, {"bits": 3}, {"bits": 2, "scheme": "ternary"}, {"bits": 8}])
@pytest.mark.parametrize("amount", [0.0, 0.8])
def test_the_documented_way_finds_codes_too(
    how: dict[str, Any], amount: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file with packed codes, of pruned weights among them
    pruned = prune_weights.apply(named("squeezenet1_1"), PruneWeights(amount=amount), Context())
    made = quantize_weights.apply(pruned, QuantizeWeights(**how), Context())
    write(made, tmp_path)
    lines = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    # When the documented lines are run beside it / Then they find every code
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    for name, weight in made.plan.weights.items():
        assert np.array_equal(found["tensors"][name + "#codes"], weight.codes.numpy())
