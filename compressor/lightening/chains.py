"""Chains of light convolutions in the place of one: where they pay, and how they come into the network."""

from collections.abc import Sequence
from math import prod
from typing import Protocol

import torch
from torch import Tensor, nn

from compressor.layers import matching
from compressor.lightening.kernels import SmallKernels
from compressor.lightening.network import Network
from compressor.lightening.separable import Separable
from compressor.models.edits import Replace
from compressor.models.parts import Convolution, told
from contract.failures import UnfitModel
from contract.methods import Patterns
from contract.methods.lighten import Lighten


class Way(Protocol):
    """A way to put several convolutions in the place of one."""

    @property
    def name(self) -> str:
        """By which the params ask for it."""
        ...

    @property
    def smallest(self) -> int:
        """The smallest side of a kernel that is lightened so."""
        ...

    def misfit(self, layer: Convolution) -> str | None:
        """Why this is not for such a layer; null where it is."""
        ...

    def parts(self, layer: Convolution) -> tuple[Convolution, ...]:
        """The layers, in the order in which they run."""
        ...

    def weights(self, weight: Tensor, groups: int) -> tuple[Tensor, ...]:
        """A weight for each of the layers, all together near to that of the layer they stand for."""
        ...


def ways(params: Lighten, colours: int) -> dict[Way, Patterns]:
    """What is asked for, each with the layers that it is for; the first that fits a layer is taken."""
    asked: tuple[tuple[Way, bool | Patterns], ...] = (
        (Separable(params.depth_multiplier, colours), params.separable),
        (SmallKernels(), params.small_kernels),
    )
    return {way: wanted if isinstance(wanted, tuple) else ("*",) for way, wanted in asked if wanted}


def meant(module: nn.Module, way: Way, patterns: Patterns) -> list[str]:
    """The layers that patterns mean; raises `UnfitModel` where the network has none of the kind, `NoLayerMatches`."""
    sizes = {name: layer.kernel_size for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    large = [name for name, size in sizes.items() if max(size) >= way.smallest]
    if not large:
        there = ", ".join(sorted({f"{height}x{width}" for height, width in sizes.values()}))
        has = f"its convolutions have kernels of {there}" if there else "it has no convolutions"
        raise UnfitModel(
            f"{way.name} is for kernels of {way.smallest}x{way.smallest} and more; {has}.", pointer=f"/{way.name}"
        )
    return matching(large, include=patterns, exclude=(), pointer=f"/{way.name}")


def chosen(network: Network, colours: int) -> dict[str, Way]:
    """The way for each layer that gets one; why others get none is among what the network has left."""
    asked = {way: meant(network.module, way, patterns) for way, patterns in ways(network.params, colours).items()}
    found: dict[str, Way] = {}
    for name in dict.fromkeys(name for names in asked.values() for name in names if network.may_change(name)):
        reasons = {way: _reason(network, name, way) for way, names in asked.items() if name in names}
        fitting = [way for way, reason in reasons.items() if reason is None]
        if fitting:
            found[name] = fitting[0]
        else:
            network.left[name] = "; ".join(f"{way.name}: {reason}" for way, reason in reasons.items())
    return found


def _reason(network: Network, name: str, way: Way) -> str | None:
    """Why a layer cannot be lightened so, or need not; null where it can."""
    part = told(network.module.get_submodule(name))
    if name in network.coded:
        return "has its codes from an earlier step"
    if name in network.masked:
        return "has pruned weights, whose zeros would be lost"
    if not isinstance(part, Convolution):
        return "pads or multiplies in a way of its own"
    misfit = way.misfit(part)
    pays = misfit is not None or macs(way.parts(part)) < macs((part,))
    return misfit if pays else "takes no fewer MACs so"


def macs(parts: Sequence[Convolution]) -> int:
    """Multiply-accumulates of a chain for each position that its last layer gives, edges aside."""
    strides = [prod(part.stride) for part in parts]
    return sum(
        prod(part.kernel_size) * part.in_channels // part.groups * part.out_channels * prod(strides[number + 1 :])
        for number, part in enumerate(parts)
    )


@torch.no_grad()
def substitute(network: Network, name: str, way: Way) -> nn.Conv2d:
    """Put the layers in the place of the named one, with the nearest weights; returns the last of them."""
    layer = network.module.get_submodule(name)
    part = told(layer)
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(part, Convolution)
    network.do(Replace(module=name, parts=way.parts(part)))
    made = [each for each in network.module.get_submodule(name).children() if isinstance(each, nn.Conv2d)]
    for light, weight in zip(made, way.weights(layer.weight, layer.groups), strict=True):
        light.weight.copy_(weight)
    if layer.bias is not None and made[-1].bias is not None:
        made[-1].bias.copy_(layer.bias)
    return made[-1]
