"""When products are computed in bfloat16."""

import pytest
import torch
from torch import nn

from compressor.training.precision import autocast, in_bf16
from contract import host
from contract.methods.train import FineTune

CPU = torch.device("cpu")
DENSE = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=2))
DEPTHWISE = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8))


@pytest.mark.parametrize(
    ("flags", "has"), [("fpu avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512_vnni", False)]
)
def test_processors_tell_whether_they_multiply_bfloat16(flags: str, has: bool) -> None:
    assert host.multiplies_bf16(f"processor : 0\nflags\t\t: {flags}\n") is has
    assert host.multiplies_bf16("Features : fp asimd bf16\n") is True


@pytest.mark.parametrize(
    ("precision", "module", "wanted"),
    [
        ("float32", DENSE, False),
        ("bf16", DEPTHWISE, True),
        ("auto", DENSE, host.multiplies_bf16()),
        ("auto", DEPTHWISE, False),
    ],
)
def test_auto_takes_it_where_it_pays(precision: str, module: nn.Module, wanted: bool) -> None:
    # Given this processor, which has such products or not / When a network is to be trained / Then the recipe decides,
    # or what is faster
    assert in_bf16(FineTune.model_validate({"precision": precision}), module, CPU) is wanted


@pytest.mark.parametrize("bf16", [True, False])
def test_products_have_the_precision_that_was_decided_on(bf16: bool) -> None:
    with autocast(CPU, bf16=bf16):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is (torch.bfloat16 if bf16 else torch.float32)
