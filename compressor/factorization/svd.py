"""The layer with as many outputs as the rank, then 1 x 1: principal components of its output (Zhang et al. 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.factorization.features import Features, leading, of_responses
from compressor.factorization.layer import Known
from compressor.models.parts import Convolution, Part


def full_ranks(shape: Sequence[int]) -> tuple[int, ...]:
    """Of a weight (outputs, channels, rows, columns)."""
    outputs, channels, rows, columns = shape
    return (min(outputs, channels * rows * columns),)


def kept(known: Known, ranks: Sequence[tuple[int, ...]]) -> list[float]:
    """Which part of the output, in squares, each of the ranks keeps."""
    energies = _features(known).energies
    parts = energies.cumsum(0) / energies.sum()
    return [float(parts[rank - 1]) for (rank,) in ranks]


def factors(known: Known, ranks: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Weights (rank, channels, rows, columns) and (outputs, rank, 1, 1)."""
    found = _features(known)
    first = found.rows[: ranks[0]].view(-1, *known.weight.shape[1:])
    return first, found.loadings[:, : ranks[0], None, None]


def composed(weights: Sequence[Tensor]) -> Tensor:
    """The one weight that does what the factors do."""
    first, second = weights
    return torch.einsum("or,riab->oiab", second[:, :, 0, 0], first)


def parts(layer: Convolution, ranks: tuple[int, ...]) -> tuple[Part, ...]:
    """The layers in the place of one."""
    first = layer.model_copy(update={"out_channels": ranks[0], "bias": False})
    return first, Convolution(
        in_channels=ranks[0], out_channels=layer.out_channels, kernel_size=(1, 1), bias=layer.bias
    )


def _features(known: Known) -> Features:
    if known.wide and known.moments is not None:
        return of_responses(known.flat, known.moments.covariance.double())
    return leading(known.flat, known.inputs)
