"""Codes are stored in the bits that they need, and come back as they were."""

import math
import zlib

import pytest
import torch
from torch import Tensor

from compressor.models.digits import DigitLayout, from_digits, packed_codes
from compressor.models.sparse import unpacked
from contract.failures import InvalidModel


def numbers(count: int, size: int = 10_007, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    """Every number below `count` about as often, around zero where they have signs."""
    found = torch.randint(0, count, (size,), generator=torch.Generator().manual_seed(seed))
    return (found - count // 2 if dtype is torch.int8 else found).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 100, 255, 256])
def test_codes_come_back_and_take_what_theory_says(count: int, dtype: torch.dtype) -> None:
    # Given codes of so many levels / When they are packed and read back
    codes = numbers(count, dtype=dtype)
    stored, sparse, digits = packed_codes({"w#codes": codes})
    back = unpacked(from_digits(stored, digits), sparse)
    # Then they are the same
    assert torch.equal(back["w#codes"], codes)
    assert back["w#codes"].dtype is dtype
    # And took whole bits at most; three levels a fifth of a byte
    bits = sum(part.nbytes for part in stored.values()) * 8 / codes.numel()
    assert bits <= (1.601 if count == 3 else max(1, math.ceil(math.log2(count))) + 0.01)


def test_odd_codes_take_no_room_for_even_ones() -> None:
    # Given odd codes from -7 to 7 / When they are packed and read back
    codes = 2 * numbers(8).to(torch.int8) - 7
    stored, sparse, digits = packed_codes({"w#codes": codes})
    # Then they are the same, and took three bits each
    assert torch.equal(unpacked(from_digits(stored, digits), sparse)["w#codes"], codes)
    assert sum(part.nbytes for part in stored.values()) * 8 <= 3 * codes.numel() + 8


def test_what_is_frequent_takes_less() -> None:
    # Given five-bit codes, as a codebook has them, of which small ones are frequent
    spread = torch.randn(50_000, generator=torch.Generator().manual_seed(0)) * 3 + 16
    codes = spread.round().clamp(0, 31).to(torch.uint8)
    frequency = torch.bincount(codes.long()).double() / codes.numel()
    entropy = -float((frequency * frequency.clamp_min(1e-30).log2()).sum())
    # When they are packed
    stored, _, _ = packed_codes({"w#codes": codes})
    # Then they are within 2 % of their entropy
    assert sum(part.nbytes for part in stored.values()) * 8 / codes.numel() < entropy * 1.02


def test_zeros_are_not_stored_where_that_is_shorter() -> None:
    # Given four-bit codes of which nine in ten are zero, at random places
    codes = numbers(15, size=200_000) * (numbers(10, size=200_000, seed=1) == 0)
    # When they are packed
    stored, sparse, digits = packed_codes({"w#codes": codes.view(200, 1000)})
    # Then there are the entropy of the places and four bits for each of the others
    assert set(stored) == {"w#codes#values", "w#codes#places"}
    zeros = float((codes == 0).double().mean())
    entropy = -zeros * math.log2(zeros) - (1 - zeros) * math.log2(1 - zeros)
    bits = sum(part.nbytes for part in stored.values()) * 8 / codes.numel()
    assert bits == pytest.approx(entropy + 4 * (1 - zeros), rel=0.03)
    assert torch.equal(unpacked(from_digits(stored, digits), sparse)["w#codes"].flatten(), codes)


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ({}, {}),
        ({"w": torch.zeros(3, dtype=torch.uint8)}, {}),
        ({"w": torch.zeros(125)}, {}),
        ({"w": torch.zeros(9, dtype=torch.uint8)}, {"per_byte": 1, "deflate": True}),
        ({"w": torch.frombuffer(bytearray(zlib.compress(b"1" * 9000)), dtype=torch.uint8)}, {"deflate": True}),
    ],
    ids=["missing", "too short", "floats", "no deflate", "too long"],
)
def test_what_is_not_as_its_layout_says_is_refused(content: dict[str, Tensor], layout: dict[str, object]) -> None:
    # Given a layout of a thousand bits, and content that does not fit / When it is read / Then it is refused by name
    told = DigitLayout.model_validate({"shape": (1000,), "signed": False, "low": 0, "count": 2} | layout)
    with pytest.raises(InvalidModel, match="w"):
        from_digits(content, {"w": told})
