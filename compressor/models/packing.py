"""Whole numbers as bits of bytes, and bytes in fewer bytes."""

import math
import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

BYTE = 8


def to_bits(numbers: Tensor, bits: int) -> Tensor:
    """uint8 numbers (N,) below 2**bits as a stream of bits, eight to a byte, the lowest first."""
    if bits == BYTE:
        return numbers
    # Eight numbers fill whole bytes, so that a block of them never grows larger than it must.
    eights = F.pad(numbers, (0, -numbers.numel() % BYTE)).view(-1, BYTE)
    stream = (eights.unsqueeze(2) >> torch.arange(bits, dtype=torch.uint8)) & 1
    packed = (stream.view(-1, BYTE) << torch.arange(BYTE, dtype=torch.uint8)).sum(1, dtype=torch.uint8)
    return packed[: math.ceil(numbers.numel() * bits / BYTE)]


def from_bits(content: Tensor, count: int, bits: int) -> Tensor:
    """The first `count` numbers (N,) of such a stream."""
    if bits == BYTE:
        return content
    stream = ((content.view(-1, 1) >> torch.arange(BYTE, dtype=torch.uint8)) & 1).flatten()[: count * bits]
    return (stream.view(-1, bits) << torch.arange(bits, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def deflated(content: Tensor) -> Tensor:
    """Bytes compressed by zlib (RFC 1950): Huffman's code for each, and where it is shorter so, what repeats once.

    What lies at random has nothing that repeats, and is shorter where nobody looks for it.
    """
    raw, found = content.numpy().tobytes(), []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        deflater = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        found.append(deflater.compress(raw) + deflater.flush())
    return torch.frombuffer(bytearray(min(found, key=len)), dtype=torch.uint8)


def inflated(content: Tensor, size: int) -> Tensor | None:
    """What was deflated; none where it is not exactly so many bytes. Nothing unpacks to more. Raises `zlib.error`."""
    raw = zlib.decompressobj().decompress(content.numpy().tobytes(), size + 1)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw and len(raw) == size else None
