"""What a channel is worth where those beside it make up for it: the optimal brain surgeon on channels.

A layer that loses the inputs S, and of which what is left is fitted by least squares, costs to second order

    tr(G W_S ([C^-1]_SS)^-1 W_S^T) / 2,

C being the second moments of what it sees, and G those of the derivatives of the log-likelihood by what it gives out
(`compressor.curvature.stakes`). Hassibi and Stork 1993 have it for single weights; Kurtic et al. 2023, ZipLM
(arXiv:2302.04089), for parts of a layer and the layer's own error. Channels are taken out one by one, the cheapest
first, for what one is worth hangs on which others are left.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from compressor.curvature.moments import Sums, gathered
from compressor.curvature.stakes import root, stakes
from compressor.fitting import can_be_fitted
from compressor.inputs import Seeing
from compressor.pruning.gates import cost_of_parts, derivatives_by_gates

#: Channels are chosen among so many of the cheapest, and so many of them before all others are looked at again.
_AMONG, _AT_ONCE = 96, 32

#: A layer, and which of its inputs are those of the channels: as many for each of them, one channel after the other.
Taken = tuple[nn.Module, Tensor]


@dataclass(frozen=True)
class Taker:
    """A layer as far as it takes some channels, in coordinates of its output in which all errors cost alike."""

    #: What it makes of each feature of each channel: (outputs, channels, features).
    weight: Tensor
    #: C^-1, as far as it is between these features: (channels, features, channels, features).
    inverse: Tensor

    def costs(self) -> Tensor:
        """Of each channel, taken out alone: (channels,), in nats."""
        own = self.inverse.diagonal(dim1=0, dim2=2).movedim(-1, 0)
        products = torch.einsum("ocf,ocg->cfg", self.weight, self.weight)
        lost: Tensor = torch.linalg.solve(own, products)
        return lost.diagonal(dim1=1, dim2=2).sum(1) / 2

    def among(self, channels: Tensor) -> Self:
        """The same for some of the channels."""
        return type(self)(self.weight[:, channels], self.inverse[channels][:, :, channels])

    def without(self, gone: Tensor) -> Self:
        """The layer fitted anew without channels: what is known of the others."""
        left, features = _all_but(gone, self.weight.shape[1]), self.weight.shape[2]
        rows, rest = self.inverse[gone], self.inverse[left][:, :, left]
        across = rows[:, :, left].flatten(2).flatten(0, 1)
        solved = torch.linalg.solve(rows[:, :, gone].reshape(len(across), -1), across)
        weight = self.weight[:, left].flatten(1) - self.weight[:, gone].flatten(1) @ solved
        inverse = rest.reshape(len(rest) * features, -1).sub_(across.T @ solved)
        return type(self)(weight.view(len(weight), -1, features), inverse.view(rest.shape))


def in_turn(takers: Sequence[Taker], alone: Tensor) -> Tensor:
    """What each channel costs when it is taken out after all cheaper ones, and no less than those: (channels,).

    `alone` is what each costs besides, whichever others there are.
    """
    found, left, most = torch.zeros_like(alone), torch.arange(len(alone), device=alone.device), 0.0
    while len(left):
        among = _costs(takers, alone[left]).argsort(stable=True)[:_AMONG]
        order, spent = _some_in_turn([taker.among(among) for taker in takers], alone[left[among]])
        gone = among[order]
        for place, cost in zip(gone.tolist(), spent, strict=True):
            most = max(most, cost)
            found[left[place]] = most
        if len(gone) < len(left):
            takers = [taker.without(gone) for taker in takers]
        left = left[_all_but(gone, len(left))]
    return found


def _all_but(gone: Tensor, count: int) -> Tensor:
    """True for each of `count` places but some: (count,)."""
    return torch.ones(count, dtype=torch.bool, device=gone.device).index_fill_(0, gone, value=False)


def _costs(takers: Sequence[Taker], alone: Tensor) -> Tensor:
    return sum((taker.costs() for taker in takers), start=alone)


def _some_in_turn(takers: Sequence[Taker], alone: Tensor) -> tuple[Tensor, list[float]]:
    """Which of a few channels go, in turn, and what each costs."""
    left = torch.arange(len(alone), device=alone.device)
    order: list[int] = []
    spent: list[float] = []
    while len(left) and len(order) < _AT_ONCE:
        costs = _costs(takers, alone[left])
        gone = costs.argmin(0, keepdim=True)
        least = int(gone)
        order.append(int(left[least]))
        spent.append(float(costs[least]))
        if len(left) > 1:
            takers = [taker.without(gone) for taker in takers]
        left = torch.cat([left[:least], left[least + 1 :]])
    return torch.tensor(order, device=alone.device), spent


@dataclass(frozen=True)
class _Layer:
    """What is known of a layer with one group of inputs."""

    #: (outputs, channels, features): by G's root, so that all errors cost alike.
    weight: Tensor
    #: C^-1 of all its inputs' features.
    inverse: Tensor

    @classmethod
    def of(cls, layer: Seeing, seen: Sums, at_stake: Tensor) -> Self:
        own = layer.weight.detach().double().flatten(1)
        weight = root(at_stake.to(own.device)) @ own
        covariance = seen.moments().covariance.to(own)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        return cls(weight.view(*layer.weight.shape[:2], -1), inverse)

    def taking(self, inputs: Tensor, count: int) -> Taker:
        """The layer as far as it takes so many channels."""
        size = self.weight.shape[2]
        inputs = inputs.to(self.weight.device)
        features = (inputs.unsqueeze(1) * size + torch.arange(size, device=inputs.device)).flatten()
        shape = (count, len(features) // count)
        inverse = self.inverse[features][:, features].view(*shape, *shape)
        return Taker(self.weight[:, inputs].reshape(len(self.weight), *shape), inverse)


@dataclass(frozen=True)
class Surgeon:
    """What is known of a network."""

    network: nn.Module
    #: Gives the images anew, batch by batch.
    batches: Callable[[], Iterable[Tensor]]
    seed: int
    #: What each layer that can be fitted has seen, and what its errors cost.
    _looked: Mapping[nn.Module, tuple[Seeing, Sums, Tensor]]
    #: What follows from that, of the layers that take something that may go: some have many inputs, and none that may.
    _layers: dict[nn.Module, _Layer] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, batches: Callable[[], Iterable[Tensor]], *, seed: int) -> Self:
        """Look at what its layers see and at what their errors cost."""
        parts = {name: part for name, part in network.named_modules() if _is_known(part)}
        seen = gathered(network, parts, batches(), seed=seed)
        known = stakes(network, {name: parts[name] for name in seen}, batches(), seed=seed)
        return cls(network, batches, seed, {parts[n]: (parts[n], seen[n], known[n]) for n in known})

    def worth(self, taken: Sequence[Taken], count: int) -> Tensor | None:
        """What the loss rises by without each of so many channels or heads, behind all that are worth less: (count,).

        In nats. For a layer that cannot be fitted that is what a gate says. None where nothing is known of any layer.
        """
        takers = [self._layer(part).taking(inputs, count) for part, inputs in taken if part in self._looked]
        others = [
            self._gates[part][:, inputs] for part, inputs in taken if part not in self._looked and part in self._gates
        ]
        if not takers and not others:
            return None
        alone = cost_of_parts(others, count) if others else takers[0].weight.new_zeros(count)
        return in_turn(takers, alone.double()).float()

    def _layer(self, part: nn.Module) -> _Layer:
        if part not in self._layers:
            self._layers[part] = _Layer.of(*self._looked[part])
        return self._layers[part]

    @cached_property
    def _gates(self) -> Mapping[nn.Module, Tensor]:
        return derivatives_by_gates(self.network, self.batches(), seed=self.seed)


def _is_known(part: nn.Module) -> bool:
    """Whether a layer can be fitted, and makes each output of all that it sees."""
    return can_be_fitted(part) and getattr(part, "groups", 1) == 1
