"""What a layer is given in a network, what it gives, and what that is added to.

Of a sum only the whole matters: where a branch ends, its last layer can make up for what the other branch has lost (He
et al. 2017, arXiv:1707.06168, section 3.3).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compressor.measure.counting import evaluating

_SUMS: frozenset[object] = frozenset(
    {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}
)
#: What says what a tensor is like, and what gives it back where nothing is trained.
_LEAVING: frozenset[object] = frozenset(
    {Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, Tensor.is_floating_point, Tensor.is_contiguous}
    | {getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad")}
    | {F.dropout, F.dropout2d, Tensor.contiguous}
)


@dataclass(frozen=True)
class Summand:
    """The other part of a sum into which a layer's output goes."""

    #: (positions, outputs)
    rows: Tensor
    #: By what each output is multiplied before, (outputs,).
    scale: Tensor

    def of(self, outputs: Tensor | None) -> Self:
        """That of some of the outputs, by their numbers; of all where there are none."""
        if outputs is None:
            return self
        where = outputs.to(self.rows.device)
        return replace(self, rows=self.rows[:, where], scale=self.scale[where])

    def lacks(self, before: Self, gave: Tensor) -> Tensor:
        """What the layer must give more for the sum to be as it was with the part `before`, (positions, outputs).

        Where that is more than the layer `gave`, as squares, it is asked for less the more it is: an output that hardly
        counts in the sum would have to be made huge, and would be nothing else any more.
        """
        lacking = before.rows - self.rows
        own, asked = gave.var(0, correction=0), lacking.square().mean(0)
        within = (self.scale.square() * own >= asked) & (self.scale != 0)
        least = torch.finfo(asked.dtype).tiny
        return lacking * torch.where(within, 1 / self.scale, self.scale * own / asked.clamp_min(least))


@dataclass(frozen=True)
class Passage:
    """A batch at one layer."""

    given: Tensor
    gave: Tensor
    #: None where the network does something else with what the layer gave than to normalize and add it.
    beside: Summand | None


@torch.no_grad()
def passed(network: nn.Module, layer: nn.Module, x: Tensor) -> Passage | None:
    """What becomes of a batch at a layer, where it is first run; none where it is not.

    What lies behind the layer, or behind the sum, is not run.
    """
    following = _Following()
    handle = layer.register_forward_hook(following.begin, with_kwargs=True)
    try:
        with evaluating(network), suppress(_Known), following:
            network(x)
    finally:
        handle.remove()
    return following.passage


def rows_of(layer: nn.Module, y: Tensor) -> Tensor:
    """What a layer gave, or something of that shape, as (positions, outputs)."""
    return (y.movedim(1, -1) if isinstance(layer, nn.Conv2d) else y).flatten(0, -2)


class _Known(Exception):
    """All is known that was looked for: what comes behind it need not run."""


class _Following(TorchFunctionMode):
    """Follows what a layer gives through the functions of torch, until it is added to something."""

    def __init__(self) -> None:
        super().__init__()
        self.passage: Passage | None = None
        self._layer: nn.Module | None = None
        self._followed: Tensor | None = None
        self._scale = torch.ones(1)

    def begin(self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor], gave: Tensor) -> None:
        """The layer's forward hook."""
        if self.passage is None:
            # What lies behind may change in place what the layer was given.
            self.passage = Passage(next(iter((*args, *kwargs.values()))).clone(), gave, None)
            self._layer, self._followed, self._scale = layer, gave, torch.ones(1, device=gave.device)

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Look at one call of a function, and do it."""
        given = kwargs or {}
        if self._followed is None or not any(part is self._followed for part in (*args, *given.values())):
            return func(*args, **given)
        if func is F.batch_norm:
            self._scale = self._scale * _factor(*args, **given)  # type: ignore[arg-type]
        elif func in _SUMS:
            self._add(*args, **given)
            raise _Known
        elif func not in _LEAVING:
            # Not done: it may change in place what the layer gave.
            raise _Known
        made = func(*args, **given)
        if isinstance(made, Tensor):
            self._followed = made
        return made

    def _add(self, first: object, second: object, **more: object) -> None:
        assert self.passage is not None
        assert self._layer is not None
        gave = self.passage.gave
        other = second if first is self._followed else first
        if isinstance(other, Tensor) and other is not self._followed and other.shape == gave.shape and not more:
            rows = rows_of(self._layer, other)
            scale = self._scale.to(rows).expand(rows.shape[1])
            self.passage = replace(self.passage, beside=Summand(rows, scale))


def _factor(
    _: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """By what a normalization multiplies each channel, told what `torch.nn.functional.batch_norm` is told."""
    if variance is None or training:
        raise _Known
    return (1.0 if weight is None else weight) / (variance + eps).sqrt()
