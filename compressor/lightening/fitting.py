"""The last of the layers that stand for one, fitted to what that one gives: ridge regression on images.

The regression sees what the lightened network gives to the layer, and aims at what the original network gives out of
its own there: so each layer makes up for what those before it have lost.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.inputs import given, unfolded

#: Of the mean of the features' squares: how strongly the weights are held where they were before the fit.
_RIDGE = 1e-2


@dataclass(frozen=True)
class Fit:
    """What a fit has done to the error: parts of the sum of squares of what the original layer gives."""

    before: float
    after: float


@dataclass(frozen=True)
class _Moments:
    """Sums over all positions of all images, in double precision; x are the features, y what they shall give."""

    #: (groups, features, features)
    xx: Tensor
    #: (groups, outputs, features)
    yx: Tensor
    yy: float

    def error(self, weight: Tensor) -> float:
        """The sum of squares that a weight (groups, outputs, features) leaves, as a part of that of y."""
        left = self.yy - 2 * float((weight * self.yx).sum()) + float(((weight @ self.xx) * weight).sum())
        return max(0.0, left) / max(self.yy, 1e-30)

    def solved(self, start: Tensor, *, held: int) -> Tensor:
        """The weight of least error, of which the first `held` features are held near those of `start`."""
        diagonal = self.xx.diagonal(dim1=1, dim2=2)[:, :held]
        ridge = torch.zeros(self.xx.shape[:2], dtype=self.xx.dtype, device=self.xx.device)
        ridge[:, :held] = _RIDGE * diagonal.mean(1, keepdim=True).clamp_min(1e-12)
        missing = self.yx - start @ self.xx
        change: Tensor = torch.linalg.solve(self.xx + torch.diag_embed(ridge), missing, left=False)
        return start + change


@torch.no_grad()
def fit(
    lightened: nn.Module, last: nn.Conv2d, original: nn.Module, layer: nn.Conv2d, batches: Iterable[Tensor]
) -> Fit | None:
    """Fit `last` in the lightened network to what `layer` gives in the original one.

    None where a network does not run its layer.
    """
    moments = _moments(_pairs(lightened, last, original, layer, batches))
    if moments is None:
        return None
    start = _weight(last)
    found = moments.solved(start, held=last.weight[0].numel())
    _set(last, found)
    return Fit(moments.error(start), moments.error(found))


def _pairs(
    lightened: nn.Module, last: nn.Conv2d, original: nn.Module, layer: nn.Conv2d, batches: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (groups, features, positions) and what they shall give (groups, outputs, positions), by batches."""
    for batch in batches:
        seen, wanted = given(lightened, last, batch), given(original, layer, batch)
        if seen is None or wanted is None:
            return
        x, y = unfolded(last, seen), layer(wanted).flatten(2)
        if last.bias is not None:
            x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        grouped = y.reshape(len(y), last.groups, -1, y.shape[2])
        yield x, grouped.permute(1, 2, 0, 3).flatten(2)


def _moments(pairs: Iterable[tuple[Tensor, Tensor]]) -> _Moments | None:
    total: _Moments | None = None
    for x, y in pairs:
        xx, yx = (x @ x.mT).double(), (y @ x.mT).double()
        yy = float(y.square().sum(dtype=torch.float64))
        total = _Moments(xx, yx, yy) if total is None else _Moments(total.xx + xx, total.yx + yx, total.yy + yy)
    return total


def _weight(layer: nn.Conv2d) -> Tensor:
    """The weight as (groups, outputs, features), a bias as its last feature."""
    weight = layer.weight.flatten(1)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias.unsqueeze(1)], dim=1)
    return weight.reshape(layer.groups, -1, weight.shape[1]).double()


def _set(layer: nn.Conv2d, found: Tensor) -> None:
    rows, features = found.flatten(0, 1), layer.weight[0].numel()
    layer.weight.copy_(rows[:, :features].reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(rows[:, features])
