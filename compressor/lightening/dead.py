"""Modules that do something in training only, and nothing to an answer."""

from torch import nn

from compressor.inputs import ran
from compressor.lightening.network import Network
from compressor.models.edits import Remove

#: By the names of their classes, which torchvision and timm give to the same things.
_DEAD = frozenset({"StochasticDepth", "DropPath", "DropBlock2d"})


def is_dead(part: nn.Module) -> bool:
    """Whether a module gives out what it is given, but in training."""
    return isinstance(part, nn.modules.dropout._DropoutNd) or type(part).__name__ in _DEAD


def remove_dead(network: Network) -> list[str]:
    """Take them away; returns their names.

    Those of which the network reads the rate alone, as attention does, it does not run: they are no work, and stay.
    """
    dead = [name for name, part in network.module.named_modules() if is_dead(part) and network.may_change(name)]
    found = ran(network.module, dead, network.input_shape)
    network.do(*(Remove(module=name) for name in found))
    return found
