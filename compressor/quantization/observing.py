"""Activations shown as they are made."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node


class _Observer(Interpreter):
    """Runs a graph and shows each activation of interest as it is made."""

    def __init__(self, module: GraphModule, look: Mapping[Node, Callable[[Tensor], None]]) -> None:
        super().__init__(module)
        self._look = look

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self._look:
            self._look[n](value)
        return value


def observe(module: GraphModule, look: Mapping[Node, Callable[[Tensor], None]], batches: Iterable[Tensor]) -> None:
    """Run a captured graph on batches (N, C, H, W) and show each of these activations to whoever looks at it."""
    observer = _Observer(module, look)
    with torch.no_grad():
        for batch in batches:
            observer.run(batch)
