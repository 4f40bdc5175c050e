"""What a gate on each input of each layer does to the log-likelihood, image by image.

A gate multiplies a channel; taking the channel away sets it from 1 to 0. The mean square of the derivative by the gate
is its Fisher information, and half of it what the loss rises by when the gate is closed (Theis et al. 2018,
arXiv:1801.05787; Liu et al. 2021, arXiv:2108.00708, for channels that many layers share). Unlike a sum over weights it
sees that what one of a channel's weights does another may undo.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressor.attention import SelfAttention
from compressor.curvature.likelihood import differentiated

#: Layers whose inputs have gates, and along which dimension, counted from the last, they have their channels.
_CHANNELS = {nn.Linear: -1, SelfAttention: -1, nn.Conv1d: -2, nn.Conv2d: -3, nn.ConvTranspose2d: -3}


@dataclass
class _Seen:
    """What one layer's inputs have shown."""

    #: Input times derivative of the log-likelihood by it, and the derivative alone, summed over positions: for each
    #: batch (2, images, inputs).
    heard: list[Tensor] = field(default_factory=list)
    #: Sums of the inputs over all that was seen, shape (inputs,), of so many positions.
    sums: Tensor | float = 0.0
    positions: int = 0

    def derivatives(self) -> Tensor:
        """By the gate on what an input has beside its mean, which a bias can stand for: (images, inputs)."""
        mean, heard = self.sums / max(self.positions, 1), torch.cat(self.heard, dim=1)
        return (heard[0] - mean * heard[1]).cpu()


class _Watch:
    """Gates the inputs of layers while a batch of images passes."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.seen = {layer: _Seen() for layer in layers}
        self._images = 0
        self._ran: dict[nn.Module, Tensor] = {}

    @contextmanager
    def batch(self, images: int) -> Iterator[None]:
        """See a batch of so many images forward and backward; a layer may run several times."""
        self._images, self._ran = images, {}
        handles = [layer.register_forward_pre_hook(self._gate) for layer in self.seen]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for layer, heard in self._ran.items():
            self.seen[layer].heard.append(heard)

    def _gate(self, layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not args or not args[0].requires_grad or len(args[0]) % self._images:
            return None
        x, *others = args
        # What the layer alone sees of it: others that read the same tensor have gates of their own.
        own = x.clone()
        values, seen = own.detach(), self.seen[layer]
        by_channel = values.movedim(_dimension(layer), -1).flatten(0, -2)
        seen.sums, seen.positions = seen.sums + by_channel.sum(0), seen.positions + len(by_channel)
        own.register_hook(lambda gradient: self._hear(layer, values, gradient))  # type: ignore[no-untyped-call]
        return own, *others

    def _hear(self, layer: nn.Module, values: Tensor, gradient: Tensor) -> None:
        heard = torch.stack([self._summed(layer, values * gradient), self._summed(layer, gradient)])
        self._ran[layer] = self._ran[layer] + heard if layer in self._ran else heard

    def _summed(self, layer: nn.Module, x: Tensor) -> Tensor:
        return x.movedim(_dimension(layer), -1).reshape(self._images, -1, x.shape[_dimension(layer)]).sum(1)


def derivatives_by_gates(network: nn.Module, batches: Iterable[Tensor], *, seed: int) -> Mapping[nn.Module, Tensor]:
    """Of the log-likelihood of each image's answer, by a gate on each input of each layer: (images, inputs)."""
    watch = _Watch(part for part in network.modules() if isinstance(part, tuple(_CHANNELS)))
    differentiated(network, batches, watch.batch, seed=seed)
    return {layer: seen.derivatives() for layer, seen in watch.seen.items() if seen.heard}


def cost_of_parts(derivatives: Sequence[Tensor], count: int) -> Tensor:
    """What the loss rises by without each of `count` channels or heads: half the mean square over images, (count,).

    The derivatives, (images, inputs), are those by the inputs of each layer that takes them, of as many inputs for each
    one after the other. Of what several layers take the gates are one, and their derivatives add up.
    """
    return torch.stack([_by_part(each, count) for each in derivatives]).sum(0).square().mean(0) / 2


def _by_part(derivatives: Tensor, count: int) -> Tensor:
    """(images, inputs) to (images, count)."""
    return derivatives.view(len(derivatives), count, -1).sum(2)


def _dimension(layer: nn.Module) -> int:
    return next(dimension for kind, dimension in _CHANNELS.items() if isinstance(layer, kind))
