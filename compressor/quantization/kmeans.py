"""k-means on a line, where sorting once makes every turn cheap."""

import torch
from torch import Tensor

#: Turns at most, and the part of the whole range by which no center moves any more when it is over.
_TURNS, _STILL = 300, 1e-6


def centers(values: Tensor, count: int) -> Tensor:
    """`count` float32 numbers near to which `values` (any shape) lie, in ascending order.

    Lloyd's algorithm from centers spread evenly over the range, which keeps some for the few large weights (Han et al.
    2016, section 3.2). A center that no value is nearest to stays where it is.
    """
    ordered = values.double().flatten().sort().values
    if ordered.numel() == 0:
        return torch.zeros(count)
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), ordered.cumsum(0)])
    found = torch.linspace(float(ordered[0]), float(ordered[-1]), count, dtype=torch.float64)
    for _ in range(_TURNS):
        before, found = found, _moved(found, ordered, sums)
        if float((found - before).abs().max()) <= _STILL * float(ordered[-1] - ordered[0]):
            break
    return found.float()


def _moved(found: Tensor, ordered: Tensor, sums: Tensor) -> Tensor:
    """Each center in the middle of what is nearest to it."""
    ends = torch.searchsorted(ordered, (found[1:] + found[:-1]) / 2)
    edges = torch.cat([torch.tensor([0]), ends, torch.tensor([ordered.numel()])])
    sizes = edges.diff()
    means = (sums[edges[1:]] - sums[edges[:-1]]) / sizes.clamp_min(1)
    return torch.where(sizes > 0, means, found)
