"""Which modules rearrange channels in ways that a dependency graph over channels does not follow.

Attention reshapes widths into heads, windows are rolled and cut, channels are split and shuffled. What such a module
does by itself is opaque; what its children do is not. That is seen in a run, not told by a list of names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_REARRANGING = frozenset({
    "softmax", "scaled_dot_product_attention", "multi_head_attention_forward", "matmul", "__matmul__", "bmm", "einsum",
    "roll", "chunk", "split", "tensor_split", "unbind", "transpose", "swapaxes", "channel_shuffle", "pixel_shuffle",
    "pixel_unshuffle", "unfold", "fold", "unflatten", "some_channels",
})  # fmt: skip

#: Functions that only look at a tensor.
_LOOKING = frozenset({"__get__", "size", "dim", "numel", "stride", "is_contiguous", "__bool__", "__len__"})

#: Layers, whatever activation they hold as a child.
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class _Watch(TorchFunctionMode):
    """Notes which functions every module calls itself."""

    def __init__(self) -> None:
        super().__init__()
        #: The innermost last.
        self.running: list[nn.Module] = []
        self.calls: dict[nn.Module, set[str]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = "some_channels" if _takes_some_channels(func, args) else getattr(func, "__name__", "")
        if self.running and name not in _LOOKING:
            self._note(name)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str) -> None:
        # What a childless module does to the shape is its parent's doing: that knows what comes before and after.
        parents = (part for part in reversed(self.running) if _has_children(part))
        caller = next(parents, self.running[0]) if name in _REARRANGING else self.running[-1]
        self.calls.setdefault(caller, set()).add(name)


def _takes_some_channels(func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Whether this is `x[:, some]` on a tensor of shape (N, C, H, W)."""
    if func is not Tensor.__getitem__ or not isinstance(args[1], tuple) or args[0].dim() != 4:
        return False
    return len(args[1]) > 1 and args[1][0] == slice(None) and args[1][1] not in (slice(None), None, Ellipsis)


def _has_children(part: nn.Module) -> bool:
    return next(part.children(), None) is not None


@contextmanager
def _following(module: nn.Module, running: list[nn.Module]) -> Iterator[None]:
    def leave(*_: object) -> None:
        # What a hook gives back takes the output's place.
        running.pop()

    hooks = []
    for part in module.modules():
        hooks.append(part.register_forward_pre_hook(lambda part, _: running.append(part)))
        hooks.append(part.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


#: The names of the functions that modules have called themselves.
Calls = Mapping[nn.Module, set[str]]


@contextmanager
def watched(module: nn.Module) -> Iterator[Calls]:
    """What its modules call while it runs in here."""
    watch = _Watch()
    with _following(module, watch.running), watch:
        yield watch.calls


def rearranging(module: nn.Module, calls: Calls) -> list[str]:
    """The modules that rearrange channels themselves, by name."""
    return [name for name, part in module.named_modules() if calls.get(part, set()) & _REARRANGING]


def composite(module: nn.Module, example: Tensor) -> list[str]:
    """The modules that do more with `example` than pass it through their children, one after the other, by name."""
    with torch.no_grad(), watched(module) as calls:
        module(example)
    return [n for n, p in module.named_modules() if p in calls and _has_children(p) and not isinstance(p, _LAYERS)]
