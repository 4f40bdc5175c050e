"""Weights by least squares: those, of all that are zero where they have to be, whose output is nearest to another's.

Tensors have the shape (groups, outputs, features): the groups of a grouped convolution are layers of their own.
"""

import torch
from torch import Tensor

#: Steps of conjugate gradients.
_STEPS = 12


def fitted(weight: Tensor, kept: Tensor, h: Tensor, *, start: Tensor, steps: int = _STEPS) -> Tensor:
    """The weights within `kept` whose output is nearest to that of `weight`, from `start` on.

    Conjugate gradients (Hestenes and Stiefel 1952) for every output at once, with H's diagonal as preconditioner; no
    step makes the error larger.
    """
    mask, diagonal = kept.to(weight.dtype), h.diagonal(dim1=1, dim2=2).unsqueeze(1)
    found = start * mask
    residual = ((weight - found) @ h) * mask
    scaled = residual / diagonal
    direction, product = scaled.clone(), (residual * scaled).sum(2, keepdim=True)
    for _ in range(steps):
        image = (direction @ h) * mask
        length = _ratio(product, (direction * image).sum(2, keepdim=True))
        found += length * direction
        residual -= length * image
        scaled = residual / diagonal
        before, product = product, (residual * scaled).sum(2, keepdim=True)
        direction = scaled + _ratio(product, before) * direction
    return found


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """0 where there is nothing left to divide by: that output is fitted."""
    return torch.where(below > 0, above / below.clamp_min(torch.finfo(below.dtype).tiny), 0.0)
