"""The range that leaves out the same share of the values at both ends."""

import torch

from compressor.quantization.calibrators.extremes import Range
from compressor.quantization.calibrators.histogram import HALF, Histogram


def middle(histogram: Histogram, *, percent: float) -> Range:
    """The range of the middle `percent` of all values, zeros among them."""
    counts = histogram.counts.clone()
    counts[HALF] += histogram.zeros
    below = counts.cumsum(0) / counts.sum()
    rest = (1 - percent / 100) / 2
    first = int(torch.searchsorted(below, torch.tensor(rest, dtype=below.dtype), right=True))
    last = int(torch.searchsorted(below, torch.tensor(1 - rest, dtype=below.dtype)))
    return histogram.within(first - HALF, min(last, 2 * HALF - 1) + 1 - HALF)
