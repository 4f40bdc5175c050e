"""How often an activation takes which values."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compressor.quantization.calibrators.extremes import Extremes, Range

#: Bins on each side of zero. The larger side fills more than half of its own.
HALF = 4096


def _no_counts() -> Tensor:
    return torch.zeros(2 * HALF, dtype=torch.float64)


@dataclass
class Histogram:
    """Counts in bins of one width, as many below zero as above it.

    Zero is the edge between two bins and widths are powers of two, so where a value lies beyond the last bin, each pair
    of neighbours becomes one: what would have been counted in wider bins from the start, whatever the batches' order.
    """

    #: float64, (2 * HALF,): how many values but zero lie in each bin.
    counts: Tensor = field(default_factory=_no_counts)
    #: Of a bin; 0 as long as nothing but zero was seen.
    width: float = 0.0
    #: Values that are exactly zero: they have a code of their own, and no error.
    zeros: int = 0
    extremes: Extremes = field(default_factory=Extremes)

    def see(self, x: Tensor, ends: Range) -> None:
        """Count a batch whose smallest and largest value are `ends`."""
        self.extremes.see(x, ends)
        reach = max(-ends[0], ends[1])
        # What is not finite cannot be counted; the extremes tell of it.
        if not math.isfinite(reach):
            return
        zeros = x.numel() - int(x.count_nonzero())
        self.zeros += zeros
        if reach > 0:
            self._widen(reach)
            # Exact, since the width is a power of two; and faster than torch's own histogram.
            bins = (x.flatten().float() / self.width).floor_().add_(HALF)
            self.counts += torch.bincount(bins.to(torch.int32), minlength=2 * HALF).cpu()
            self.counts[HALF] -= zeros

    def _widen(self, reach: float) -> None:
        if self.width == 0:
            self.width = 2.0 ** math.floor(math.log2(reach / HALF))
        while reach >= self.width * HALF:
            merged = self.counts.reshape(HALF, 2).sum(1)
            self.counts = _no_counts()
            self.counts[HALF // 2 : HALF // 2 + HALF] = merged
            self.width *= 2

    @property
    def used(self) -> tuple[int, int]:
        """The first bin that is not empty and the one behind the last, zero's edge among them; counted from zero."""
        filled = self.counts.nonzero()
        if not len(filled):
            return 0, 0
        return min(0, int(filled[0]) - HALF), max(0, int(filled[-1]) + 1 - HALF)

    def within(self, start: int, end: int) -> Range:
        """What lies between two edges, counted in bins from zero, but not beyond what was seen."""
        low, high = self.extremes.range()
        return max(start * self.width, min(low, 0.0)), min(end * self.width, max(high, 0.0))


@dataclass
class Counted:
    """A calibrator that counts all values and then chooses a range by their histogram."""

    choose: Callable[[Histogram], Range]
    histogram: Histogram = field(default_factory=Histogram)

    def see(self, x: Tensor, ends: Range) -> None:
        """Take in a batch whose smallest and largest value are `ends`."""
        self.histogram.see(x, ends)

    def range(self) -> Range:
        """The chosen one; that of all values where nothing but zero was seen."""
        return self.choose(self.histogram) if self.histogram.width else self.histogram.extremes.range()
