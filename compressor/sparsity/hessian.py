"""Zeros for which the other weights make up, one layer at a time: optimal brain surgery (Hassibi and Stork 1993).

A layer's output is W X. With H = X X^T, a change D of the weights costs trace(D H D^T). Which weights go, and what the
others become, is found together by the alternating direction method of multipliers, zeros growing along a cubic curve
(Boza 2024, arXiv:2401.02938, algorithm 2), on features scaled to the same norm. On our layers that loses about half of
what one sweep over the columns loses (SparseGPT: Frantar and Alistarh 2023). At last what is left is fitted.

Tensors have the shape (groups, outputs, features): the groups of a grouped convolution are layers of their own.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from compressor.least_squares import fitted

#: Steps of the alternation, and by how many of them the mask has grown to what it shall be.
_ROUNDS, _GROWN_BY = 30, 20
#: How strongly weights and zeros pull at each other, where H has a diagonal of ones.
_RHO = 1.0

#: From scores and the done part of the growing (0 to 1) to true where a weight stays.
Choose = Callable[[Tensor, float], Tensor]


def operated(weight: Tensor, h: Tensor, choose: Choose) -> tuple[Tensor, Tensor]:
    """The weights with zeros in place, and true where one stays; `choose` sees the weights' pull on the output."""
    norms = h.diagonal(dim1=1, dim2=2).sqrt().unsqueeze(1)
    scaled = h / norms / norms.transpose(1, 2)
    inverse = _inverse(scaled + _RHO * torch.eye(h.shape[-1], device=h.device))
    wanted = (weight * norms) @ scaled
    left = weight * norms
    pull = torch.zeros_like(left)
    for number in range(_ROUNDS):
        kept = choose((left + pull).abs(), min(1.0, (number + 1) / _GROWN_BY))
        zeroed = (left + pull) * kept
        pull += left - zeroed
        left = (wanted + _RHO * (zeroed - pull)) @ inverse
    return fitted(weight, kept, h, start=zeroed / norms), kept


def _inverse(h: Tensor) -> Tensor:
    # In double precision, because what follows subtracts nearly equal numbers.
    return torch.cholesky_inverse(torch.linalg.cholesky(h.double())).to(h.dtype)
