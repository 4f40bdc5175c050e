"""What layers one behind the other cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compressor.models.parts import Convolution, Dense, Part


@dataclass(frozen=True)
class Cost:
    """For one image."""

    macs: int
    parameters: int


def cost(parts: Sequence[Part], shapes: Iterable[tuple[int, ...]]) -> Cost:
    """Of convolutions and linear layers that are run on inputs of these shapes, (1, C, H, W) or (..., features)."""
    return Cost(sum(_macs(parts, shape) for shape in shapes), sum(_parameters(part) for part in parts))


def _macs(parts: Sequence[Part], shape: tuple[int, ...]) -> int:
    total = 0
    for part in parts:
        match part:
            case Dense():
                shape = (*shape[:-1], part.out_features)
                total += math.prod(shape) * part.in_features
            case Convolution():
                shape = (1, part.out_channels, _side(part, shape, 0), _side(part, shape, 1))
                total += math.prod(shape) * part.in_channels // part.groups * math.prod(part.kernel_size)
    return total


def _side(part: Convolution, shape: tuple[int, ...], axis: int) -> int:
    spanned = part.dilation[axis] * (part.kernel_size[axis] - 1) + 1
    return (shape[2 + axis] + 2 * part.padding[axis] - spanned) // part.stride[axis] + 1


def _parameters(part: Part) -> int:
    match part:
        case Dense():
            return part.in_features * part.out_features + part.bias * part.out_features
        case Convolution():
            weights = part.in_channels // part.groups * part.out_channels * math.prod(part.kernel_size)
            return weights + part.bias * part.out_channels
        case _:
            return 0
