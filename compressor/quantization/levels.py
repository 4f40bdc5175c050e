"""Weights as indices into a table of levels: what low-bit storage keeps of them.

`weight = scale * (levels[code] - zero)`. One table serves a whole weight; a scale, and where the scheme has one a zero
point, serves a group of consecutive weights of one output channel.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from compressor.quantization.integers import WeightCodes
from contract.methods.low_bit import Scheme

#: Schemes among whose levels there is no zero, unless pruned weights need one.
_WITHOUT_ZERO = frozenset({Scheme.BINARY, Scheme.FOUR_LEVEL})


@dataclass(frozen=True, eq=False)
class LevelCodes:
    """A weight of any shape, whose first axis is that of the output channels, as codes of its levels."""

    scheme: Scheme
    #: Of a code, as it is named: a scheme with one level less than `2**bits` has them too.
    bits: int
    #: uint8, of the weight's shape: which level. Where zero is a level, it is the first.
    codes: Tensor
    #: float32 (K,).
    levels: Tensor
    #: (channels, groups), float32, or bfloat16 where a channel has more than one group; null where levels need none.
    scale: Tensor | None = None
    #: uint8 (channels, groups); null where it is zero everywhere.
    zero: Tensor | None = None
    #: Weights of one channel that share a scale, the last ones of a channel perhaps fewer; null for the whole channel.
    group: int | None = None

    def dequantized(self) -> Tensor:
        """The float32 weight that the codes mean."""
        values = self.levels[self.codes.flatten(1).long()]
        if self.zero is not None:
            values = values - by_column(self.zero, self.group, values.shape[1])
        if self.scale is not None:
            values = values * by_column(self.scale, self.group, values.shape[1])
        return values.view(self.codes.shape)

    @cached_property
    def integers(self) -> WeightCodes | None:
        """The form that integer kernels multiply; null where they have none for these levels."""
        if self.scheme is not Scheme.SYMMETRIC or self.group is not None or self.scale is None:
            return None
        codes = self.levels[self.codes.long()].to(torch.int8)
        return WeightCodes(codes, self.scale.float().flatten(), axis=0, bits=self.bits)

    @property
    def size_bits(self) -> float:
        """Bits of the codes, scales, zero points and codebook together, before any entropy coding."""
        beside = [self.scale, self.zero, self.levels if self.scheme is Scheme.CODEBOOK else None]
        own = bits_of_code(len(self.levels)) * self.codes.numel()
        return own + sum(8 * part.nbytes for part in beside if part is not None)


def bits_of_code(levels: int) -> float:
    """Bits that one code of so many levels takes when as many codes as fit share a byte, or each has whole bits."""
    whole = math.ceil(math.log2(levels)) if levels > 1 else 1
    return min(whole, 8 / codes_per_byte(levels))


def codes_per_byte(levels: int) -> int:
    """How many codes, as digits of a number, one byte can hold: five of three levels."""
    return max(1, int(math.log(256, max(2, levels)) + 1e-9))


def by_column(parts: Tensor, group: int | None, columns: int) -> Tensor:
    """What is there for each group (channels, groups), for each of a channel's weights: (channels, columns)."""
    wide = parts.float()
    return wide if group is None else wide.repeat_interleave(group, dim=1)[:, :columns]


def levels_of(scheme: Scheme, bits: int, *, pruned: bool) -> Tensor:
    """The table of a scheme that learns none; `pruned` puts a zero among levels that have none."""
    if scheme is Scheme.ASYMMETRIC:
        return torch.arange(2.0**bits)
    signed = [sign * size for size in _magnitudes(scheme, bits) for sign in (1.0, -1.0)]
    return torch.tensor(signed if scheme in _WITHOUT_ZERO and not pruned else [0.0, *signed])


def _magnitudes(scheme: Scheme, bits: int) -> list[float]:
    top = 2 ** (bits - 1) - 1
    match scheme:
        case Scheme.SYMMETRIC:
            return [float(size) for size in range(1, top + 1)]
        case Scheme.POWER_OF_TWO:
            return [2.0**-exponent for exponent in range(top)]
        case Scheme.FOUR_LEVEL:
            return [1.0, 3.0]
        case Scheme.TERNARY | Scheme.BINARY:
            return [1.0]
        case _:
            raise ValueError(f"{scheme} has no table of its own")


def nearest(targets: Tensor, levels: Tensor) -> Tensor:
    """uint8 codes of the levels nearest to the targets, which have any shape."""
    ordered, places = levels.sort()
    middles = (ordered[1:] + ordered[:-1]) / 2
    return places[torch.bucketize(targets, middles)].to(torch.uint8)
