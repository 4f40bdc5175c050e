"""How many weights are how large, before and after; on a logarithmic scale, on which those near zero are seen.

Networks have a thousand million weights: they are counted tensor by tensor, and no copy of them is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from contract.report import Histogram
from contract.value import Json

_BINS = 48
#: The smallest magnitude that has a bin of its own, as a part of the largest.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Tally:
    """Weights counted by magnitude."""

    #: Of the bins, one more than there are bins; shape (bins + 1,), float64.
    edges: Tensor
    #: Shape (bins,), int64. What is larger than all bins counts in the last, what is smaller in the first.
    counts: Tensor
    #: Weights that are exactly zero are in no bin.
    zeros: int

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], edges: Tensor | None = None) -> Self:
        """Count them in these bins, or else in bins up to the largest of them."""
        bins = _edges(weights) if edges is None else edges
        counts, zeros = torch.zeros(len(bins) - 1, dtype=torch.int64), 0
        for weight in weights.values():
            magnitudes = weight.detach().abs().flatten()
            inside = magnitudes[magnitudes > 0]
            zeros += len(magnitudes) - len(inside)
            places = torch.bucketize(inside, bins[1:-1].to(inside))
            counts += torch.bincount(places, minlength=len(counts)).cpu()
        return cls(bins, counts, zeros)


def _edges(weights: Mapping[str, Tensor]) -> Tensor:
    largest = max([float(weight.detach().abs().max()) for weight in weights.values() if weight.numel()], default=0.0)
    powers = torch.logspace(0, 1, _BINS + 1, base=1 / _SMALLEST, dtype=torch.float64)
    return powers * max(largest, 1e-30) * _SMALLEST


def histogram(before: Tally, after: Mapping[str, Tensor], *, threshold: float | None = None) -> dict[str, Json]:
    """A `Histogram` of what was counted and of the weights as they are now, as a step's details have it."""
    now = Tally.of(after, before.edges)
    return Histogram(
        edges=tuple(float(f"{edge:.4g}") for edge in before.edges),
        before=tuple(before.counts.tolist()),
        after=tuple(now.counts.tolist()),
        zeros_before=before.zeros,
        zeros_after=now.zeros,
        threshold=threshold,
    ).model_dump(mode="json")
