"""How many weights are how large, before and after; on a logarithmic scale, on which those near zero are seen."""

from collections.abc import Mapping

import torch
from torch import Tensor

from contract.report import Histogram
from contract.value import Json

_BINS = 48
#: The smallest magnitude that has a bin of its own, as a part of the largest.
_SMALLEST = 1e-6


def histogram(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, threshold: float | None = None
) -> dict[str, Json]:
    """A `Histogram` of magnitudes before and after, as a step's details have it."""
    old, new = _magnitudes(before), _magnitudes(after)
    largest = max(float(old.max()), float(new.max()), 1e-30)
    edges = torch.logspace(0, 1, _BINS + 1, base=1 / _SMALLEST, dtype=torch.float64) * largest * _SMALLEST
    return Histogram(
        edges=tuple(float(f"{edge:.4g}") for edge in edges),
        before=_counts(old, edges),
        after=_counts(new, edges),
        zeros_before=int((old == 0).sum()),
        zeros_after=int((new == 0).sum()),
        threshold=threshold,
    ).model_dump(mode="json")


def _magnitudes(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([weight.detach().double().abs().flatten() for weight in weights.values()])


def _counts(magnitudes: Tensor, edges: Tensor) -> tuple[int, ...]:
    """Weights in each bin; what is smaller than all bins, but not zero, counts in the first."""
    inside = magnitudes[magnitudes > 0].clamp(float(edges[0]), float(edges[-1]))
    places = torch.bucketize(inside, edges[1:-1])
    return tuple(int(count) for count in torch.bincount(places, minlength=len(edges) - 1))
