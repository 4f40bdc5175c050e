"""Parts of a network whose inner widths nobody outside of them sees.

The hidden width of an MLP, or the channels between the first and the last convolution of a branch: where the whole
network's dependencies cannot be traced (windows that are rolled and reshaped, channels that are shuffled), these can
still be narrowed, each by itself.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compressor.models.torchvision_ops import torchvision

_WEIGHTED = (nn.Conv2d, nn.Linear)
#: Attributes by which attention shows: its reshapes have the widths baked in.
_ATTENTION = ("in_proj_weight", "qkv", "relative_position_bias_table")


def is_untraceable(module: nn.Module) -> bool:
    """Whether the network has structures in which Torch-Pruning 1.6 fails or hangs: attention and channel shuffles."""
    shuffle = torchvision().models.ShuffleNetV2
    return any(isinstance(part, shuffle) or _is_attention(part) for part in module.modules())


def _is_attention(part: nn.Module) -> bool:
    return any(hasattr(part, attribute) for attribute in _ATTENTION)


def islands(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The largest parts that are chains with a dense layer first and another one behind it, by name."""
    found: list[str] = []
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if name and not inside and _is_chain(part) and _can_narrow(part):
            found.append(name)
            yield name, part


def _is_chain(part: nn.Module) -> bool:
    excitation = torchvision().ops.SqueezeExcitation
    containers = [p for p in part.modules() if next(p.children(), None) is not None]
    kinds = (nn.Sequential, excitation)
    return bool(containers) and all(isinstance(p, kinds) or _is_timm_mlp(p) for p in containers)


def _is_timm_mlp(part: nn.Module) -> bool:
    return type(part).__module__ == "timm.layers.mlp" and hasattr(part, "fc1") and hasattr(part, "fc2")


def _can_narrow(part: nn.Module) -> bool:
    layers = [layer for layer in part.modules() if isinstance(layer, _WEIGHTED)]
    dense = [layer for layer in layers if getattr(layer, "groups", 1) == 1]
    return len(dense) >= 2 and layers[0] is dense[0]


def inputs_of(module: nn.Module, parts: dict[str, nn.Module], example: Tensor) -> dict[str, Tensor]:
    """What each part takes when the network takes `example` (1, C, H, W)."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> object:
        return lambda _, args: seen.setdefault(name, args[0].detach())

    hooks = [part.register_forward_pre_hook(note(name)) for name, part in parts.items()]  # type: ignore[arg-type]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
