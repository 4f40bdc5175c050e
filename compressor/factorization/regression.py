"""A layer's output, told by least squares from features of its input.

With y = W x, features z = P x and C = E[x x^T], the best B for y ~ B z is W C P^T (P C P^T)^-1. A Cholesky root L of
P C P^T gives at once what any first few of the features tell: with Q = L^-1 P C W^T, the j-th row of Q is what feature
j adds to those before it. Of rank r, the best B keeps the r largest components of the responses (reduced-rank
regression: Izenman 1975).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Of the largest variance of a feature: added to all, so that features which tell the same do no harm.
_JITTER = 1e-10

#: Applies P to the last dimension of a tensor: from (..., inputs) to (..., features).
Project = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Regression:
    """What features tell of an output."""

    #: L of shape (features, features), lower triangular.
    root: Tensor
    #: Q of shape (features, outputs).
    told: Tensor
    #: trace(W C W^T).
    whole: Tensor

    @classmethod
    def of(cls, weight: Tensor, c: Tensor | None, project: Project) -> "Regression":
        """For W of shape (outputs, inputs) and C of (inputs, inputs); None: white noise."""
        c = torch.eye(weight.shape[1], dtype=weight.dtype) if c is None else c
        seen = weight.to(c.dtype) @ c
        products = project(project(c).T).double()
        products.diagonal().add_(_JITTER * products.diagonal().max())
        root = torch.linalg.cholesky(products)
        told = torch.linalg.solve_triangular(root, project(seen).T.double(), upper=False)
        return cls(root, told, (seen * weight).sum())

    def kept(self, each: int) -> Tensor:
        """Part of the output that the first 1, 2, ... blocks of `each` features tell; (features / each,)."""
        told: Tensor = self.told.square().sum(1).view(-1, each).sum(1).cumsum(0) / self.whole
        return told

    def spectrum(self, features: int) -> Tensor:
        """Part of the output that B of rank 1, 2, ... tells from the first so many features."""
        told = self.told[:features]
        smaller = told @ told.T if features < told.shape[1] else told.T @ told
        kept: Tensor = torch.linalg.eigvalsh(smaller).flip(0).clamp_min(0).cumsum(0) / self.whole
        return kept

    def best(self) -> Tensor:
        """B of shape (outputs, features)."""
        best: Tensor = torch.linalg.solve_triangular(self.root.T, self.told, upper=True).T
        return best

    def best_of_rank(self, rank: int) -> tuple[Tensor, Tensor]:
        """B as a product of (outputs, rank) and (rank, features)."""
        _, vectors = torch.linalg.eigh(self.told.T @ self.told)
        outputs = vectors[:, -rank:].flip(1)
        return outputs, outputs.T @ self.best()
