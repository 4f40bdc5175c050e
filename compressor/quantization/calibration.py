"""The ranges that activations take on calibration images."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

#: The smallest and the largest value of an activation.
Range = tuple[float, float]
#: Bins of an activation's histogram, between its smallest and its largest value.
_BINS = 4096


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


@dataclass
class _Extremes:
    low: float = 0.0
    high: float = 0.0

    def see(self, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        self.low, self.high = min(self.low, low.item()), max(self.high, high.item())


@dataclass
class _Histogram:
    extremes: Range
    counts: Tensor = field(default_factory=lambda: torch.zeros(_BINS, dtype=torch.float64))

    def see(self, x: Tensor) -> None:
        low, high = self.extremes
        if high > low:
            self.counts += torch.histc(x.float(), _BINS, low, high).cpu()

    def middle(self, part: float) -> Range:
        """The range that leaves out the same share at both ends and keeps `part` of all values."""
        low, high = self.extremes
        total = self.counts.sum()
        if total == 0:
            return self.extremes
        below = self.counts.cumsum(0) / total
        rest = (1 - part) / 2
        first = int(torch.searchsorted(below, torch.tensor(rest, dtype=torch.float64), right=True))
        last = int(torch.searchsorted(below, torch.tensor(1 - rest, dtype=torch.float64)))
        width = (high - low) / _BINS
        return low + first * width, low + (min(last, _BINS - 1) + 1) * width


def extremes(module: GraphModule, nodes: Iterable[Node], batches: Iterable[Tensor]) -> dict[Node, Range]:
    """The range of all values, zero included, that each of `nodes` takes on the batches (N, C, H, W)."""
    seen = {node: _Extremes() for node in nodes}
    _run(module, {node: seen[node].see for node in seen}, batches)
    return {node: (range_.low, range_.high) for node, range_ in seen.items()}


def middles(
    module: GraphModule, ranges: Mapping[Node, Range], batches: Iterable[Tensor], *, part: float
) -> dict[Node, Range]:
    """Within the ranges of all values, those that keep the middle `part` of them."""
    seen = {node: _Histogram(range_) for node, range_ in ranges.items()}
    _run(module, {node: seen[node].see for node in seen}, batches)
    return {node: histogram.middle(part) for node, histogram in seen.items()}


def _run(module: GraphModule, look: Mapping[Node, Callable[[Tensor], None]], batches: Iterable[Tensor]) -> None:
    observer = _Observer(module, look)
    with torch.no_grad():
        for batch in batches:
            observer.run(batch)
