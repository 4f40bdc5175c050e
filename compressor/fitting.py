"""A layer fitted to what another gave in its place: ridge regression on images.

The regression sees what the changed network gives to the layer, and aims at what the original network gives out there
(`compressor.outcomes`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.context import Context
from compressor.inputs import Seeing, multiplies_only, sees, sees_all
from compressor.outcomes import Aim, Outcome, outcome, rows, set_rows

#: Of the mean of the features' squares: how strongly the weights are held where they were before the fit, where there
#: are no more positions than features; the more there are, the less.
_RIDGE = 0.1


def can_be_fitted(layer: nn.Module) -> bool:
    """Whether it only multiplies what it sees with its weight, and does not see too much at once."""
    return isinstance(layer, Seeing) and multiplies_only(layer) and sees(layer) and sees_all(layer.weight[0].numel())


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


@torch.no_grad()
def fit(
    network: nn.Module, layer: Seeing, aim: Aim, batches: Iterable[Tensor], *, seed: int = 0, kept: Tensor | None = None
) -> Fit | None:
    """Fit a layer of a changed network to its aim in the original one.

    Where `kept`, of the weight's shape, is false, the weight stays zero. None where a network does not run its layer,
    or gives it something that is no number.
    """
    seen = outcome(network, layer, aim, batches, seed=seed)
    if seen is None or not seen.finite:
        return None
    start, h = rows(layer), _held(seen, layer.weight[0].numel())
    found = seen.aimed(start, h, None if kept is None else _with_bias(layer, kept))
    set_rows(layer, found)
    return Fit(seen.error(start), seen.error(found))


def _held(seen: Outcome, count: int) -> Tensor:
    """The products (groups, features, features) with a ridge by which the first `count` features are held."""
    diagonal = seen.xx.diagonal(dim1=1, dim2=2)[:, :count]
    ridge = torch.zeros(seen.xx.shape[:2], dtype=seen.xx.dtype, device=seen.xx.device)
    part = _RIDGE * min(1.0, count / seen.count)
    ridge[:, :count] = part * diagonal.mean(1, keepdim=True).clamp_min(1e-12)
    return seen.xx + torch.diag_embed(ridge)


def _with_bias(layer: Seeing, kept: Tensor) -> Tensor:
    """A mask of the weight in the shape of `rows`; a bias stays."""
    flat = kept.to(layer.weight.device).flatten(1)
    if layer.bias is not None:
        flat = torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)
    return flat.reshape(getattr(layer, "groups", 1), -1, flat.shape[1])
