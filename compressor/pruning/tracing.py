"""The dependencies between channels, found by Torch-Pruning in the graph that autograd keeps of one run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle
from torch_pruning.ops import OPTYPE

from compressor.pruning.opaque import rearranging, watched


class Rearranged(ValueError):
    """Channels are rearranged in modules around which dependencies were not cut."""

    def __init__(self, modules: Sequence[str]) -> None:
        super().__init__(f"{', '.join(name or 'the network itself' for name in modules)} rearrange channels")
        #: Their names.
        self.modules = modules


class Boundary(torch.autograd.Function):
    """Stands in the graph where it was cut off: a layer whose input passes here cannot have a narrower one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The same values; a copy, because what follows may work in place."""
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Nobody asks."""
        return gradients[0]


def is_boundary(node: Any) -> bool:
    """Whether the width at this node of a dependency graph stays, since an output or something opaque needs it."""
    return node.type is OPTYPE.OUTPUT or getattr(node.module, "_grad_fn", None) == "BoundaryBackward"


class _Cuts:
    """Cuts the graph around opaque modules."""

    def __init__(self) -> None:
        #: The ends of the graph.
        self.outputs: list[Tensor] = []

    def begin(self, value: Any) -> Any:
        """The tensors in `value` with a history that begins at a boundary."""
        return tree_map_only(Tensor, self._begin, value)

    def _begin(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        beginning: Tensor = Boundary.apply(x.detach().requires_grad_())  # type: ignore[no-untyped-call]
        return beginning

    def end(self, value: Any) -> Any:
        """The tensors in `value` without history; where they had one, it ends in an output."""
        return tree_map_only(Tensor, self._end, value)

    def _end(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            # A sum, because Torch-Pruning takes the second dimension of an output for its channels.
            self.outputs.append(x.sum())
        return x.detach()

    def around(self, opaque: nn.Module) -> Iterator[RemovableHandle]:
        """The hooks that cut a module off; its children run within it, each by itself."""
        yield opaque.register_forward_pre_hook(
            lambda _, args, kwargs: (self.end(args), self.end(kwargs)), with_kwargs=True
        )
        yield opaque.register_forward_hook(lambda _, args, output: self.begin(output))
        for child in _called_children(opaque):
            yield child.register_forward_pre_hook(
                lambda _, args, kwargs: (self.begin(args), self.begin(kwargs)), with_kwargs=True
            )
            yield child.register_forward_hook(lambda _, args, output: self.end(output))


def _called_children(part: nn.Module) -> Iterator[nn.Module]:
    for child in part.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _called_children(child)
        else:
            yield child


@contextmanager
def _cut(opaque: Sequence[nn.Module], cuts: _Cuts) -> Iterator[None]:
    hooks = [hook for part in opaque for hook in cuts.around(part)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _refusing_rearrangement(module: nn.Module) -> Iterator[None]:
    with watched(module) as calls:
        yield
    if found := rearranging(module, calls):
        raise Rearranged(found)


def trace(module: nn.Module, example: Tensor, *, opaque: Sequence[nn.Module]) -> tp.DependencyGraph:
    """The dependency graph of the network's run on `example`, cut around the opaque modules.

    Raises `Rearranged` where none is opaque and some should be; the network is of no further use then.
    """

    def run(network: nn.Module, x: Tensor) -> list[Tensor]:
        cuts = _Cuts()
        with _cut(opaque, cuts) if opaque else _refusing_rearrangement(network):
            cuts.end(network(x))
        return cuts.outputs

    graph = tp.DependencyGraph()
    with torch.enable_grad():
        return graph.build_dependency(module, example, forward_fn=run, verbose=False)
