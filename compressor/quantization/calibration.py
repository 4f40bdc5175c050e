"""The ranges that activations take on calibration images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from compressor.quantization.calibrators.entropy import least_divergent
from compressor.quantization.calibrators.extremes import Extremes, Range
from compressor.quantization.calibrators.histogram import Counted
from compressor.quantization.calibrators.moving_average import MovingAverage
from compressor.quantization.calibrators.percentile import middle
from compressor.quantization.calibrators.squared_error import least_squares
from compressor.quantization.observing import observe
from compressor.quantization.plan import TOP
from contract.methods.quantize import Calibrator


class Tracker(Protocol):
    """What a calibrator keeps of one activation."""

    def see(self, x: Tensor, ends: Range) -> None:
        """Take in a batch whose smallest and largest value are `ends`."""
        ...

    def range(self) -> Range:
        """What shall have codes."""
        ...


def tracker(calibrator: Calibrator, *, percent: float, top: int = TOP) -> Tracker:
    """A new one of this kind; `percent` is what percentile keeps of the values, `top` mse's largest code."""
    match calibrator:
        case "minmax":
            return Extremes()
        case "moving_average":
            return MovingAverage()
        case "percentile":
            return Counted(partial(middle, percent=percent))
        case "entropy":
            return Counted(least_divergent)
        case "mse":
            return Counted(partial(least_squares, top=top))


@dataclass(frozen=True)
class Activity:
    """What was seen of one activation."""

    chosen: Tracker
    extremes: Extremes = field(default_factory=Extremes)

    def see(self, x: Tensor) -> None:
        """Take in a batch."""
        low, high = torch.aminmax(x)
        ends = (low.item(), high.item())
        self.extremes.see(x, ends)
        self.chosen.see(x, ends)

    @property
    def constant(self) -> bool:
        """Whether one value only was seen."""
        return self.extremes.low == self.extremes.high


def calibrated(
    module: GraphModule, nodes: Iterable[Node], batches: Iterable[Tensor], make: Callable[[], Tracker]
) -> dict[Node, Activity]:
    """What each of `nodes` does on the batches (N, C, H, W), in one pass."""
    seen = {node: Activity(make()) for node in nodes}
    observe(module, {node: activity.see for node, activity in seen.items()}, batches)
    return seen
