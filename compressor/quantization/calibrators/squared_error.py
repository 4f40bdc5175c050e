"""The range whose codes are nearest to the values, by the mean squared error.

Clipping costs at the ends and gains a finer step everywhere else (Banner et al. 2019, arXiv:1810.05723, section 3).
"""

import torch
from torch import Tensor

from compressor.quantization.calibrators.extremes import Range
from compressor.quantization.calibrators.histogram import HALF, Histogram
from compressor.quantization.plan import TOP

#: Parts of the range of all values that are tried.
_PARTS = torch.linspace(1.0, 0.05, 96, dtype=torch.float64)


def least_squares(histogram: Histogram, top: int = TOP) -> Range:
    """The range of least error with codes up to `top`: both ends drawn in together first, then each by itself."""
    filled = histogram.counts.nonzero().flatten()
    values = (filled - HALF + 0.5).double() * histogram.width
    counts = histogram.counts[filled]
    low, high = (torch.tensor(end, dtype=torch.float64) for end in histogram.within(-HALF, HALF))
    low, high = _best(values, counts, low * _PARTS, high * _PARTS, top)
    low, high = _best(values, counts, low.expand_as(_PARTS), high * _PARTS, top)
    low, high = _best(values, counts, low * _PARTS, high.expand_as(_PARTS), top)
    return float(low), float(high)


def _best(values: Tensor, counts: Tensor, low: Tensor, high: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Of ranges (R,), the one of least error; the widest of those that are as good."""
    found = int(squared_errors(values, counts, low, high, top).argmin())
    return low[found], high[found]


def squared_errors(values: Tensor, counts: Tensor, low: Tensor, high: Tensor, top: int = TOP) -> Tensor:
    """The sum over `values` (V,), each `counts` (V,) times, of squared differences to its code, for ranges (R,)."""
    step = ((high - low) / top).clamp_min(2.0**-126).unsqueeze(1)
    zero = (-low.unsqueeze(1) / step).round()
    codes = (values / step).round().clamp(-zero, top - zero)
    return ((codes * step - values).square() * counts).sum(1)
