"""The few features of a layer's input from which its output is told best.

A layer gives y = M x, and C = E[x x^T]. With the eigenvectors U and eigenvalues s^2 of M C M^T, largest first, the rows
of F = diag(1/s) U^T M are uncorrelated features of variance one, and y ~ U diag(s) z from the first r of them loses
least of all that have rank r: the principal components of the responses (Zhang et al. 2015, arXiv:1505.06798, equation
3). What is lost is the sum of the s^2 left out; with C = 1 that is the theorem of Eckart and Young.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: Of the largest variance: what is below is nothing but rounding.
_NOTHING = 1e-14


@dataclass(frozen=True)
class Features:
    """Features of a layer's input, those first that tell most."""

    #: From inputs to features, (features, inputs).
    rows: Tensor
    #: From features to outputs, (outputs, features).
    loadings: Tensor
    #: What each tells of the output, in squares, (features,).
    energies: Tensor


def leading(m: Tensor, c: Tensor | None) -> Features:
    """Features for M (outputs, inputs) and a regular C (inputs, inputs); none: white noise."""
    if c is None:
        u, s, rows = torch.linalg.svd(m, full_matrices=False)
        return Features(rows, u * s, s.square())
    if m.shape[0] < m.shape[1]:
        half = m.to(c.dtype)
        return of_responses(m, (half @ c @ half.T).double())
    # The right singular vectors of M R with C = R R^T tell the same, and take less work where x is narrower than y.
    root = torch.linalg.cholesky(c.double())
    seen = m @ root
    energies, vectors = _descending(seen.T @ seen)
    return Features(torch.linalg.solve_triangular(root.T, vectors, upper=True).T, seen @ vectors, energies)


def of_responses(m: Tensor, responses: Tensor) -> Features:
    """The same for M (outputs, inputs) from the second moments of its outputs (outputs, outputs)."""
    energies, u = _descending(responses)
    s = energies.clamp_min(_NOTHING * float(energies[0])).sqrt()
    return Features((u.T @ m) / s.unsqueeze(1), u * s, energies)


def _descending(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, none below zero, and eigenvectors in columns."""
    values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0).clamp_min(0), vectors.flip(1)
