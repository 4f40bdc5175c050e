"""What a network costs with fewer channels, told from the dependencies without removing any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from compressor.measure.counting import Macs, count_macs


@dataclass(frozen=True)
class Use:
    """What a group of channels is to one layer: some of its outputs, or of its inputs."""

    layer: nn.Module
    outputs: bool
    #: The part of all its outputs, or inputs, that one position of the group stands for.
    part: float


@dataclass(frozen=True)
class _Layer:
    macs: int
    weights: int
    vectors: int


class Costs:
    """Multiply-accumulates and parameters of a network, as a function of how many channels each group keeps."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, int, int], uses: Sequence[Sequence[Use]]) -> None:
        macs = count_macs(network, input_shape)
        names = {part: name for name, part in network.named_modules()}
        layers = {use.layer for group in uses for use in group}
        self._uses = uses
        self._layers = {layer: _described(layer, names[layer], macs) for layer in layers}
        self._other_macs = macs.total - sum(layer.macs for layer in self._layers.values())
        self._macs = macs.total
        self._parameters = sum(parameter.numel() for parameter in network.parameters())

    def macs_left(self, removed: Sequence[int]) -> float:
        """The part of the multiply-accumulates that is left when each group loses so many positions."""
        shares = self._shares(removed)
        left = sum(layer.macs * shares[part][0] * shares[part][1] for part, layer in self._layers.items())
        return (self._other_macs + left) / self._macs

    def parameters_left(self, removed: Sequence[int]) -> float:
        """The same of the parameters."""
        shares = self._shares(removed)
        gone = sum(
            layer.weights * (1 - shares[part][0] * shares[part][1]) + layer.vectors * (1 - shares[part][0])
            for part, layer in self._layers.items()
        )
        return (self._parameters - gone) / self._parameters

    def _shares(self, removed: Sequence[int]) -> Mapping[nn.Module, tuple[float, float]]:
        """The part of its outputs and of its inputs that each layer keeps."""
        gone: dict[nn.Module, list[float]] = {layer: [0.0, 0.0] for layer in self._layers}
        for uses, count in zip(self._uses, removed, strict=True):
            for use in uses:
                gone[use.layer][0 if use.outputs else 1] += count * use.part
        return {layer: (1 - outputs, 1 - inputs) for layer, (outputs, inputs) in gone.items()}


def _described(layer: nn.Module, name: str, macs: Macs) -> _Layer:
    own = [parameter.numel() for parameter in layer.parameters(recurse=False) if parameter.dim() > 1]
    vectors = [parameter.numel() for parameter in layer.parameters(recurse=False) if parameter.dim() <= 1]
    # What is counted of a module is counted of its children, too, each of which is described by itself.
    within = sum(macs.by_module.get(f"{name}.{child}", 0) for child, _ in layer.named_children())
    return _Layer(macs.by_module.get(name, 0) - within, sum(own), sum(vectors))
