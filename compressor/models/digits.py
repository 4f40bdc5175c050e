"""Codes of weights, stored as the digits of bytes."""

import math
import zlib
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from compressor.models.packing import BYTE, deflated, from_bits, inflated, to_bits
from compressor.models.sparse import PLACES, SparseLayout, packed
from compressor.quantization.levels import codes_per_byte
from contract.failures import InvalidModel
from contract.value import Value

#: Smaller tensors are not worth it.
_LEAST = 64


class DigitLayout(Value):
    """How to read a tensor of whole numbers from bytes.

    Without `per_byte`, a number has as many bits as `count` - 1 needs, one number behind the other, the first in the
    lowest bits. With it, a byte is that many digits to the base `count`, the first the least. `deflate` is the same
    compressed by zlib (RFC 1950). Every number is then multiplied by `apart`, and `low` is added.
    """

    shape: tuple[int, ...]
    #: Of the numbers before they were packed: int8 or uint8.
    signed: bool
    low: int
    #: Of which all differences are multiples: odd numbers are two apart.
    apart: int = Field(default=1, ge=1, le=255)
    #: How many different numbers there can be.
    count: int = Field(ge=1, le=256)
    per_byte: int | None = Field(default=None, ge=1, le=8)
    deflate: bool = False


def packed_codes(
    codes: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, SparseLayout], dict[str, DigitLayout]]:
    """Codes in the shorter of two forms: all of them, or those that are not zero and where they are."""
    tensors: dict[str, Tensor] = {}
    sparse: dict[str, SparseLayout] = {}
    digits: dict[str, DigitLayout] = {}
    for name, numbers in codes.items():
        whole: tuple[dict[str, Tensor], dict[str, SparseLayout]] = ({name: numbers}, {})
        found = [(*_codes_in_digits(parts), layouts) for parts, layouts in (whole, packed({name: numbers}))]
        parts, packing, layouts = min(found, key=lambda form: sum(part.nbytes for part in form[0].values()))
        tensors, sparse, digits = tensors | parts, sparse | layouts, digits | packing
    return tensors, sparse, digits


def _codes_in_digits(parts: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, DigitLayout]]:
    """The parts of one weight's codes, the codes themselves packed."""
    name = next(name for name in parts if not name.endswith(PLACES))
    short, layout = _in_digits(parts[name])
    return {**parts, name: short}, {} if layout is None else {name: layout}


def _in_digits(numbers: Tensor) -> tuple[Tensor, DigitLayout | None]:
    """A tensor of int8 or uint8 in the shortest of all ways, and how to read it; none where it is stored as it is."""
    return min(_ways(numbers), key=lambda way: way[0].numel()) if numbers.numel() >= _LEAST else (numbers, None)


def _ways(numbers: Tensor) -> Iterator[tuple[Tensor, DigitLayout]]:
    low = int(numbers.min())
    above = numbers.flatten().to(torch.int16) - low
    apart = math.gcd(*torch.bincount(above).nonzero().flatten().tolist()) or 1
    flat = (above // apart).to(torch.uint8)
    plain = DigitLayout(
        shape=tuple(numbers.shape), signed=numbers.dtype is torch.int8, low=low, apart=apart, count=int(flat.max()) + 1
    )
    yield to_bits(flat, _bits(plain.count)), plain
    # Digits that stay whole within a byte have a frequency, which whole codes for bytes can use.
    for per_byte in sorted({codes_per_byte(plain.count), 1}, reverse=True):
        content = _to_digits(flat, plain.count, per_byte)
        yield content, plain.model_copy(update={"per_byte": per_byte})
        yield deflated(content), plain.model_copy(update={"per_byte": per_byte, "deflate": True})


def from_digits(tensors: Mapping[str, Tensor], layouts: Mapping[str, DigitLayout]) -> dict[str, Tensor]:
    """Every tensor as it was; raises `InvalidModel` where a packed one is missing or is not what its layout says."""
    return {**tensors, **{name: _unpacked(name, tensors, layout) for name, layout in layouts.items()}}


def _unpacked(name: str, tensors: Mapping[str, Tensor], layout: DigitLayout) -> Tensor:
    content, size = tensors.get(name), torch.Size(layout.shape).numel()
    if content is None or content.dtype is not torch.uint8 or content.dim() != 1:
        raise InvalidModel(f"What {name} is made of is not in the file.")
    if layout.deflate:
        content = _inflated(name, content, _length(size, layout))
    if content.numel() != _length(size, layout):
        raise InvalidModel(f"{name} has another size than its shape says.")
    flat = from_bits(content, size, _bits(layout.count)) if layout.per_byte is None else _digits(content, size, layout)
    numbers = flat.to(torch.int16) * layout.apart + layout.low
    return numbers.to(torch.int8 if layout.signed else torch.uint8).view(layout.shape)


def _inflated(name: str, content: Tensor, size: int) -> Tensor:
    try:
        raw = inflated(content, size)
    except zlib.error as error:
        raise InvalidModel(f"{name} cannot be read.") from error
    if raw is None:
        raise InvalidModel(f"{name} has another size than its shape says.")
    return raw


def _length(size: int, layout: DigitLayout) -> int:
    """Bytes of so many numbers."""
    if layout.per_byte is None:
        return math.ceil(size * _bits(layout.count) / BYTE)
    return math.ceil(size / layout.per_byte)


def _bits(count: int) -> int:
    return max(1, (count - 1).bit_length())


def _to_digits(flat: Tensor, base: int, per_byte: int) -> Tensor:
    """Whole numbers (N,) below `base`, so many to a byte."""
    padded = F.pad(flat, (0, -flat.numel() % per_byte)).view(-1, per_byte)
    return (padded * _powers(base, per_byte)).sum(1, dtype=torch.uint8)


def _digits(content: Tensor, size: int, layout: DigitLayout) -> Tensor:
    assert layout.per_byte is not None
    if layout.per_byte == 1:
        return content
    powers = _powers(layout.count, layout.per_byte)
    return (content.unsqueeze(1) // powers % layout.count).flatten()[:size]


def _powers(base: int, count: int) -> Tensor:
    return torch.tensor([base**place for place in range(count)]).to(torch.uint8)
