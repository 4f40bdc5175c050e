"""A layer fitted to what another gave in its place: ridge regression on images.

The regression sees what the changed network gives to the layer, and aims at what the original network gives out there:
so each layer makes up for what those before it have lost (He et al. 2017, arXiv:1707.06168, sections 3.1 and 3.2).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from compressor.context import Context
from compressor.inputs import Seeing, columns_wanted, drawn, given, places_drawn, sees, sees_all
from compressor.sparsity.hessian import fitted

#: Of the mean of the features' squares: how strongly the weights are held where they were before the fit, where there
#: are no more positions than features; the more there are, the less.
_RIDGE = 0.1

#: Gives the images anew, (N, C, H, W) batch by batch, where the network is.
Batches = Callable[[], Iterable[Tensor]]


#: Some subclasses pad what they see, or standardize their weight.
_PLAIN = (nn.Linear.forward, nn.Conv2d.forward)


def can_be_fitted(layer: nn.Module) -> bool:
    """Whether it only multiplies what it sees with its weight, and does not see too much at once."""
    if not isinstance(layer, Seeing) or type(layer).forward not in _PLAIN:
        return False
    return sees(layer) and sees_all(layer.weight[0].numel())


@dataclass(frozen=True)
class Aim:
    """What a layer shall give."""

    #: The original network, and the layer in it.
    network: nn.Module
    layer: Seeing
    #: The numbers of those of its outputs that are aimed at; all of them where absent.
    outputs: Tensor | None = None

    def outcome(self, batch: Tensor) -> Tensor | None:
        """What it gives for a batch: (positions, outputs); none where the network does not run the layer."""
        seen = given(self.network, self.layer, batch)
        if seen is None:
            return None
        y: Tensor = self.layer(seen)
        rows = y.flatten(0, -2) if isinstance(self.layer, nn.Linear) else y.movedim(1, -1).flatten(0, -2)
        return rows if self.outputs is None else rows[:, self.outputs.to(rows.device)]


@dataclass(frozen=True)
class Fit:
    """What a fit has done to the error: parts of the sum of squares of what the original layer gives."""

    before: float
    after: float


@dataclass(frozen=True)
class Reconstruction:
    """What became of layers that were to be fitted one after the other, by name."""

    fits: Mapping[str, Fit]
    #: Those that were not fitted.
    left: tuple[str, ...]

    def tell(self, context: Context) -> None:
        """Say it in the step's report."""
        context.record("output_error", {name: [fit.before, fit.after] for name, fit in self.fits.items()})
        if self.left:
            context.record("not_reconstructed", list(self.left))


@dataclass(frozen=True)
class _Moments:
    """Sums over positions of all images, in double precision; x are the features, y what they shall give."""

    #: (groups, features, features)
    xx: Tensor
    #: (groups, outputs, features)
    yx: Tensor
    yy: float
    #: Positions.
    count: int

    def error(self, weight: Tensor) -> float:
        """The sum of squares that a weight (groups, outputs, features) leaves, as a part of that of y."""
        left = self.yy - 2 * float((weight * self.yx).sum()) + float(((weight @ self.xx) * weight).sum())
        return max(0.0, left) / max(self.yy, 1e-30)

    def and_also(self, other: Self) -> Self:
        """The sums over these positions and others; these are used up."""
        return replace(
            self,
            xx=self.xx.add_(other.xx),
            yx=self.yx.add_(other.yx),
            yy=self.yy + other.yy,
            count=self.count + other.count,
        )

    def held(self, count: int) -> Tensor:
        """The products (groups, features, features) with a ridge by which the first `count` features are held."""
        diagonal = self.xx.diagonal(dim1=1, dim2=2)[:, :count]
        ridge = torch.zeros(self.xx.shape[:2], dtype=self.xx.dtype, device=self.xx.device)
        part = _RIDGE * min(1.0, count / self.count)
        ridge[:, :count] = part * diagonal.mean(1, keepdim=True).clamp_min(1e-12)
        return self.xx + torch.diag_embed(ridge)


@torch.no_grad()
def fit(
    network: nn.Module, layer: Seeing, aim: Aim, batches: Iterable[Tensor], *, seed: int = 0, kept: Tensor | None = None
) -> Fit | None:
    """Fit a layer of a changed network to its aim in the original one.

    Where `kept`, of the weight's shape, is false, the weight stays zero. None where a network does not run its layer,
    or gives it something that is no number.
    """
    moments = _moments(_pairs(network, layer, aim, batches, seed))
    if moments is None or not moments.yx.isfinite().all():
        return None
    start, count = _weight(layer), layer.weight[0].numel()
    h = moments.held(count)
    missing = moments.yx - start @ moments.xx
    found = start + torch.cholesky_solve(missing.mT, torch.linalg.cholesky(h)).mT
    if kept is not None:
        found = fitted(found, _with_bias(layer, kept), h, start=start)
    _set(layer, found)
    return Fit(moments.error(start), moments.error(found))


def _pairs(
    network: nn.Module, layer: Seeing, aim: Aim, batches: Iterable[Tensor], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (groups, features, positions) and what they shall give (groups, outputs, positions), by batches."""
    random = torch.Generator().manual_seed(seed)
    for batch in batches:
        seen, wanted = given(network, layer, batch), aim.outcome(batch)
        if seen is None or wanted is None:
            return
        places = places_drawn(len(wanted), columns_wanted(layer), random).to(wanted.device)
        x, y = drawn(layer, seen.float(), places), wanted[places].float().T
        if layer.bias is not None:
            x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        yield x, y.reshape(len(x), -1, y.shape[1])


def _moments(pairs: Iterable[tuple[Tensor, Tensor]]) -> _Moments | None:
    total: _Moments | None = None
    for x, y in pairs:
        yy = float(y.square().sum(dtype=torch.float64))
        seen = _Moments((x @ x.mT).double(), (y @ x.mT).double(), yy, x.shape[2])
        total = seen if total is None else total.and_also(seen)
    return total


def _weight(layer: Seeing) -> Tensor:
    """The weight as (groups, outputs, features), a bias as its last feature."""
    weight = layer.weight.flatten(1)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias.unsqueeze(1)], dim=1)
    return weight.reshape(getattr(layer, "groups", 1), -1, weight.shape[1]).double()


def _with_bias(layer: Seeing, kept: Tensor) -> Tensor:
    """A mask of the weight in the shape of `_weight`; a bias stays."""
    rows = kept.to(layer.weight.device).flatten(1)
    if layer.bias is not None:
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    return rows.reshape(getattr(layer, "groups", 1), -1, rows.shape[1])


def _set(layer: Seeing, found: Tensor) -> None:
    rows, features = found.flatten(0, 1), layer.weight[0].numel()
    layer.weight.copy_(rows[:, :features].reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(rows[:, features])
