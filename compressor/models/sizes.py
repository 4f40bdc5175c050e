"""Which images a network takes, found by giving it some."""

import torch
from torch import nn

from compressor.measure.counting import evaluating
from contract.cost import CHANNELS, Sizes

#: How networks refuse images of a size that they are not made for.
REFUSALS = (
    RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError, IndexError, ZeroDivisionError,
    AttributeError,
)  # fmt: skip
#: Networks of several sizes take those that are larger by multiples of one of these.
_STEPS = (1, 2, 4, 8, 16, 32, 64)
#: So many of its multiples are tried: where branches round otherwise, one or two sizes fit by chance.
_MULTIPLES = (1, 2, 3, 5, 7, -1)


def takes(module: nn.Module, height: int, width: int) -> bool:
    """Whether a network on meta answers to one colour image of this size."""
    try:
        with evaluating(module):
            module(torch.zeros(1, CHANNELS, height, width, device="meta"))
    except REFUSALS:
        return False
    return True


def sizes_of(module: nn.Module, size: tuple[int, int]) -> Sizes:
    """What images a network on meta takes that takes those of this size."""
    height, width = size
    step = next((step for step in _STEPS if height == width and _takes_by(module, height, step)), None)
    if step is None:
        return Sizes(only=size)
    square = not takes(module, height, height + step)
    return Sizes(least=_least(module, height // step, step), step=step, square=square)


def _takes_by(module: nn.Module, side: int, step: int) -> bool:
    """Whether square images of this side are not the only ones, where sides are multiples of the step."""
    others = (2 * side, *(side + multiple * step for multiple in _MULTIPLES))
    return side % step == 0 and all(takes(module, other, other) for other in others if other > 0)


def _least(module: nn.Module, taken: int, step: int) -> int:
    """The smallest side of square images that are taken, where `taken` steps are enough; larger ones are taken too."""
    if takes(module, step, step):
        return step
    refused = 1
    while taken - refused > 1:
        middle = (taken + refused) // 2
        if takes(module, middle * step, middle * step):
            taken = middle
        else:
            refused = middle
    return taken * step
