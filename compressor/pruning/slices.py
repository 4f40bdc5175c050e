"""All that the channels of a network are made of, group by group."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.pruning.channels import on_a_copy
from compressor.pruning.groups import channel_members
from compressor.pruning.tracing import trace
from compressor.time_limit import Limit


@dataclass(frozen=True)
class Slice:
    """A tensor's part in some channels: the dimension along which it has them, and where."""

    tensor: nn.Parameter
    dimension: int
    places: Tensor

    def channels(self) -> Tensor:
        """Its numbers, one row for each channel."""
        chosen = self.tensor.detach().index_select(self.dimension, self.places)
        return chosen.movedim(self.dimension, 0).reshape(len(self.places), -1)

    def scale(self, factors: Tensor) -> None:
        """Multiply each channel by a factor, in place."""
        whole = torch.ones(self.tensor.shape[self.dimension], dtype=self.tensor.dtype, device=self.tensor.device)
        whole[self.places] = factors.to(whole)
        shape = [1] * self.tensor.dim()
        shape[self.dimension] = -1
        self.tensor.mul_(whole.view(shape))


@dataclass(frozen=True)
class ChannelSlices:
    """The slices of channels that only go together."""

    slices: tuple[Slice, ...]

    @property
    def size(self) -> int:
        """Numbers that one channel is made of."""
        return sum(one.channels().shape[1] for one in self.slices)

    def norms(self) -> Tensor:
        """The Euclidean norm of each channel; shape (channels,)."""
        return torch.stack([one.channels().square().sum(1) for one in self.slices]).sum(0).sqrt()

    @torch.no_grad()
    def shrink(self, threshold: float) -> None:
        """w max(1 - threshold sqrt(size) / ||w||, 0) for all numbers w of each channel: the group lasso's operator."""
        factors = (1 - threshold * self.size**0.5 / self.norms().clamp_min(1e-12)).clamp_min(0)
        for one in self.slices:
            one.scale(factors)


def channel_slices(module: nn.Module, example: Tensor, *, fixed: Collection[str]) -> tuple[ChannelSlices, ...]:
    """Every group of channels that may shrink, over the network's own parameters; none with an output of `fixed`.

    Raises `PruningFailed` where the dependencies between channels cannot be found.
    """

    def found(
        network: nn.Module, opaque: Sequence[nn.Module], _: Limit
    ) -> list[list[tuple[str, int, tuple[int, ...]]]]:
        layers = [part for name, part in network.named_modules() if name in fixed]
        names = {parameter: name for name, parameter in network.named_parameters()}
        groups = channel_members(trace(network, example, opaque=opaque), fixed=layers)
        return [[(names[tensor], dimension, places) for tensor, dimension, places in group] for group in groups]

    return tuple(
        ChannelSlices(
            tuple(Slice(module.get_parameter(n), d, torch.tensor(p, device=example.device)) for n, d, p in group)
        )
        for group in on_a_copy(module, example, found)
        if group
    )
