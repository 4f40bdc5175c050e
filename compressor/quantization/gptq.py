"""Codes one column after the other, what is still to come making up for the error of what is done.

GPTQ (Frantar et al. 2023, algorithm 1), which is optimal brain surgery with rounding for pruning. The columns on whose
inputs most depends come first; scales stay those of the weights before.

Tensors have the shape (groups, channels, features): the groups of a grouped convolution are layers of their own.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from compressor.inputs import damped
from compressor.quantization.fitting import Form, Grid, coded, fitted
from compressor.quantization.levels import LevelCodes, by_column, nearest

#: Columns after which what was left over is handed on to all that follow.
_BLOCK = 128


def compensated(weight: Tensor, products: Tensor, form: Form, *, kept: Tensor | None = None) -> LevelCodes:
    """The codes of a weight (channels, ...) whose outputs are near to the weight's on what the layer has seen.

    `products` (groups, features, features) are sums of x x^T over the columns x that a group of channels is multiplied
    with. Where `kept` is false the codes mean zero.
    """
    rows = weight.detach().to("cpu", torch.float32).flatten(1)
    mask = None if kept is None else kept.cpu().flatten(1)
    grid = fitted(rows, form, kept=mask)
    shape = (products.shape[0], -1, rows.shape[1])
    h = damped(products.cpu())
    order = h.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True)
    there = torch.ones_like(rows) if mask is None else mask.float()
    codes = _in_order(
        _ordered(rows.view(shape), order),
        _ordered(there.view(shape), order),
        _upper(_ordered(_ordered(h, order).transpose(1, 2), order)),
        _Columns.of(grid, rows.shape).view(shape).ordered(order),
    )
    found = _ordered(codes, order.argsort(dim=1)).reshape(rows.shape)
    return coded(found, grid, form, shape=weight.shape, kept=mask)


def _ordered(columns: Tensor, order: Tensor) -> Tensor:
    """Columns (groups, channels, features) in another order for each group (groups, features)."""
    return columns.gather(2, order.unsqueeze(1).expand_as(columns))


def _upper(h: Tensor) -> Tensor:
    """The upper Cholesky factors of the inverses; in double precision, because equal numbers are subtracted."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h.double()))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper.float()


@dataclass(frozen=True)
class _Columns:
    """What each weight's code means, column by column."""

    levels: Tensor
    #: Of the weights' shape, as the zero points.
    scale: Tensor
    zero: Tensor

    @classmethod
    def of(cls, grid: Grid, shape: torch.Size) -> Self:
        scale = torch.ones(shape) if grid.scale is None else by_column(grid.scale, grid.group, shape[1])
        zero = torch.zeros(shape) if grid.zero is None else by_column(grid.zero, grid.group, shape[1])
        return cls(grid.levels, scale.expand(shape), zero.expand(shape))

    def view(self, shape: tuple[int, ...]) -> "_Columns":
        return _Columns(self.levels, self.scale.reshape(shape), self.zero.reshape(shape))

    def ordered(self, order: Tensor) -> "_Columns":
        return _Columns(self.levels, _ordered(self.scale, order), _ordered(self.zero, order))

    def codes(self, number: int, column: Tensor) -> Tensor:
        """The codes of one column's weights (groups, channels)."""
        return nearest(column / self.scale[..., number] + self.zero[..., number], self.levels)

    def values(self, number: int, codes: Tensor) -> Tensor:
        """What one column's codes mean."""
        return (self.levels[codes.long()] - self.zero[..., number]) * self.scale[..., number]


def _in_order(left: Tensor, kept: Tensor, upper: Tensor, columns: _Columns) -> Tensor:
    """The codes of weights `left`, which are used up; `upper` is (groups, features, features)."""
    codes = torch.empty_like(left, dtype=torch.uint8)
    features = left.shape[2]
    for start in range(0, features, _BLOCK):
        end = min(start + _BLOCK, features)
        errors = torch.empty(*left.shape[:2], end - start)
        for i in range(start, end):
            codes[..., i] = columns.codes(i, left[..., i])
            values = columns.values(i, codes[..., i]) * kept[..., i]
            error = (left[..., i] - values) / upper[:, i, i].unsqueeze(1)
            left[..., i + 1 : end] -= error.unsqueeze(2) * upper[:, i, i + 1 : end].unsqueeze(1)
            errors[..., i - start] = error
        left[..., end:] -= errors @ upper[:, start:end, end:]
    return codes
