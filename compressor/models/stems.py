"""Small images in networks made for large ones: the first strides become 1, so that features do not collapse.

A network for 224 pixels halves its feature maps five times, which leaves one position of an image of 32. What is made
for such images begins without strides (He et al. 2016, section 4.2, for CIFAR-10).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.measure.counting import evaluating
from compressor.models.edits import Edit, Remove, Set, apply_edits

#: Images of at most so many pixels a side are small.
SMALL = 64
#: Positions a side that the smallest feature map shall have.
_WANTED = 4
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class _Shrinking:
    """A layer that gives out a smaller map than it is given."""

    name: str
    layer: nn.Module
    #: Shorter sides of the two maps.
    before: int
    after: int


def edits_for_small_images(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Edit, ...]:
    """What to do to the network so that its smallest feature map has 4x4 positions, or as many as can be had.

    All layers that shrink maps of one size lose their strides together, since branches must fit each other, the
    largest maps first; a pool goes altogether. Where the network would not compute any more, they keep them.
    """
    if min(input_shape[1:]) > SMALL:
        return ()
    tried = copy.deepcopy(module).to("meta")
    shrinking = _shrinking(tried, input_shape)
    found: list[Edit] = []
    kept: set[str] = set()
    while level := _next_level(shrinking, kept):
        edits = [_unstrided(one) for one in level]
        apply_edits(tried, edits)
        now = _shrinking(tried, input_shape)
        if now is None:
            kept |= {one.name for one in level}
            tried = copy.deepcopy(module).to("meta")
            apply_edits(tried, found)
        else:
            shrinking, found = now, [*found, *edits]
    return tuple(found)


def smallest_map(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Positions on the shorter side of the smallest map that a layer with a stride gives out."""
    return min((one.after for one in _shrinking(module, input_shape) or ()), default=min(input_shape[1:]))


def _next_level(shrinking: Sequence[_Shrinking] | None, kept: set[str]) -> list[_Shrinking]:
    """The layers that shrink the largest maps; none where the smallest map is large enough."""
    if not shrinking or min(one.after for one in shrinking) >= _WANTED:
        return []
    layers = [one for one in shrinking if one.name not in kept]
    largest = max((one.before for one in layers), default=0)
    return [one for one in layers if one.before == largest]


def _unstrided(one: _Shrinking) -> Edit:
    if isinstance(one.layer, _POOLS):
        return Remove(module=one.name)
    return Set(module=one.name, attribute="stride", value=(1, 1))


def _shrinking(module: nn.Module, input_shape: tuple[int, int, int]) -> list[_Shrinking] | None:
    """In the order in which they compute; None where the network does not take such an input."""
    found: list[_Shrinking] = []

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            before, after = min(given[0].shape[-2:]), min(answer.shape[-2:])
            if after < before:
                found.append(_Shrinking(name, layer, before, after))

        return note

    strided = {name: part for name, part in module.named_modules() if _has_stride(part)}
    handles = [part.register_forward_hook(noting(name)) for name, part in strided.items()]
    try:
        with evaluating(module):
            module(torch.zeros(1, *input_shape, device=next(module.parameters()).device))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError):
        return None
    finally:
        for handle in handles:
            handle.remove()
    return found


def _has_stride(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and part.stride not in (1, (1, 1))
