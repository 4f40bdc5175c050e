"""The range whose codes tell most of a distribution.

Migacz 2017, 8-bit inference with TensorRT (GTC S7310): of all ranges about zero, the one for which the Kullback-Leibler
divergence from the clipped distribution to what its codes leave of it is least. As in ONNX Runtime, a range ends where
the values end, so that activations behind a ReLU have all codes above zero.
"""

import torch
from torch import Tensor

from compressor.quantization.calibrators.extremes import Range
from compressor.quantization.calibrators.histogram import HALF, Histogram

#: Codes among which a range is divided; TensorRT and ONNX Runtime take as many.
LEVELS = 128
#: Ranges that are tried.
_TRIED = 128
#: What an empty bin is taken to hold where its neighbours' codes fill it, as in ONNX Runtime.
_LITTLE = 1e-4


def least_divergent(histogram: Histogram) -> Range:
    """The range with the least divergence; the widest of those that are as good."""
    first, last = histogram.used
    farthest = max(-first, last)
    nearest = min(LEVELS, farthest)
    tried = sorted({round(x) for x in torch.linspace(nearest, farthest, _TRIED).tolist()}, reverse=True)
    ranges = [(max(-reach, first), min(reach, last)) for reach in tried]
    start, end = min(ranges, key=lambda ends: divergence(histogram.counts, HALF + ends[0], HALF + ends[1]))
    return histogram.within(start, end)


def divergence(counts: Tensor, start: int, end: int) -> float:
    """KL(P || Q) in nats for the range of bins from `start` to before `end`.

    P are the counts in it, those outside added to its ends; Q what is left of it when neighbours share one of `LEVELS`
    codes, spread evenly over the bins that P fills.
    """
    inside = counts[start:end]
    p = inside.clone()
    p[0] += counts[:start].sum()
    p[-1] += counts[end:].sum()
    filled = p > 0
    code = torch.arange(len(p)) * LEVELS // len(p)
    shared = torch.zeros(2, LEVELS, dtype=p.dtype).index_add_(1, code, torch.stack((inside, filled.to(p.dtype))))
    q = torch.where(filled, shared[0][code] / shared[1][code].clamp_min(1), 0)
    p, q = _smoothed(p), _smoothed(q)
    return float(torch.xlogy(p, p / q).sum()) if float(q.sum()) else float("inf")


def _smoothed(counts: Tensor) -> Tensor:
    """A distribution without empty bins: each gets a little, which the others give."""
    empty = counts == 0
    given = _LITTLE * int(empty.sum()) / max(1, int((~empty).sum()))
    distribution = torch.where(empty, _LITTLE, counts - given)
    return distribution / distribution.sum()
