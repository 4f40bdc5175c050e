"""Tensors with many zeros, stored as what is not zero and where it is."""

import zlib
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from compressor.models.packing import deflated, from_bits, inflated, to_bits
from contract.failures import InvalidModel
from contract.value import Value

#: Ends of the names under which the parts of a sparse tensor are stored.
VALUES, PLACES = "#values", "#places"
#: Smaller tensors are not worth the two names.
_LEAST = 1024


class SparseLayout(Value):
    """How to put a tensor together again.

    `NAME#values` has what is not zero, in row-major order. `NAME#places` has one bit for each number, set where it is
    not zero, eight to a byte, the first in the lowest bit; `deflate` is the same compressed by zlib (RFC 1950).
    """

    shape: tuple[int, ...]
    places: Literal["bits", "deflate"]


def packed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, SparseLayout]]:
    """The tensors with those sparse that are smaller so, and how to read these; -0 becomes 0."""
    stored: dict[str, Tensor] = {}
    layouts: dict[str, SparseLayout] = {}
    for name, tensor in tensors.items():
        sparse = _packed(tensor) if tensor.numel() >= _LEAST else None
        if sparse is None:
            stored[name] = tensor
        else:
            stored[name + VALUES], stored[name + PLACES], layouts[name] = sparse
    return stored, layouts


def _packed(tensor: Tensor) -> tuple[Tensor, Tensor, SparseLayout] | None:
    """Values, places and layout, where they take less room than the tensor."""
    flat = tensor.contiguous().flatten()
    there = flat != 0
    bits = to_bits(there.cpu().to(torch.uint8), 1)
    small = deflated(bits)
    shorter = small.numel() < bits.numel()
    values, places = flat[there], small if shorter else bits
    if values.numel() * flat.element_size() + places.numel() >= flat.numel() * flat.element_size():
        return None
    return values, places, SparseLayout(shape=tuple(tensor.shape), places="deflate" if shorter else "bits")


def unpacked(tensors: Mapping[str, Tensor], layouts: Mapping[str, SparseLayout]) -> dict[str, Tensor]:
    """Every tensor dense, under its own name; raises `InvalidModel` where parts are missing or do not fit together."""
    parts = {name + end for name in layouts for end in (VALUES, PLACES)}
    dense = {name: tensor for name, tensor in tensors.items() if name not in parts}
    return dense | {name: _unpacked(name, tensors, layout) for name, layout in layouts.items()}


def _unpacked(name: str, tensors: Mapping[str, Tensor], layout: SparseLayout) -> Tensor:
    values, places = tensors.get(name + VALUES), tensors.get(name + PLACES)
    if values is None or places is None or places.dtype is not torch.uint8:
        raise InvalidModel(f"What the sparse tensor {name} is made of is not in the file.")
    size = torch.Size(layout.shape).numel()
    bits = places if layout.places == "bits" else _inflated(name, places, (size + 7) // 8)
    there = from_bits(bits, size, 1).bool()
    if there.numel() != size or int(there.sum()) != values.numel():
        raise InvalidModel(f"The sparse tensor {name} has other places than values.")
    dense = torch.zeros(size, dtype=values.dtype)
    dense[there] = values.flatten()
    return dense.view(layout.shape)


def _inflated(name: str, places: Tensor, size: int) -> Tensor:
    """Exactly so many bytes."""
    try:
        content = inflated(places, size)
    except zlib.error as error:
        raise InvalidModel(f"The places of the sparse tensor {name} cannot be read.") from error
    if content is None:
        raise InvalidModel(f"The sparse tensor {name} has other places than values.")
    return content
