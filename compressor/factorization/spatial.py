"""k x 1, then 1 x k (Jaderberg et al. 2014, arXiv:1405.3866, scheme 2).

With the columns W_b of a kernel and what each of them sees, y = sum_b W_b u_b. One matrix V of rank r for all of them,
W_b ~ H_b V, comes from the stacked W_b and the moments that the u_b have on the average; without data that is the
optimum. How the columns see the same pixels then counts in a least-squares fit of all H_b together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.factorization.features import leading
from compressor.factorization.layer import Known
from compressor.factorization.regression import Regression
from compressor.models.parts import Convolution, Part


def full_ranks(shape: Sequence[int]) -> tuple[int, ...]:
    """Of a weight (outputs, channels, rows, columns)."""
    outputs, channels, rows, columns = shape
    return (min(channels * rows, outputs * columns),)


def kept(known: Known, ranks: Sequence[tuple[int, ...]]) -> list[float]:
    """Which part of the output, in squares, each of the ranks keeps."""
    most = max(rank for (rank,) in ranks)
    found = _regression(known, _vertical(known, most)).kept(known.kernel[1])
    return [float(found[rank - 1]) for (rank,) in ranks]


def factors(known: Known, ranks: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Weights (rank, channels, rows, 1) and (outputs, rank, 1, columns)."""
    vertical = _vertical(known, ranks[0])
    fitted = _regression(known, vertical).best()
    return vertical.unsqueeze(3), fitted.reshape(len(fitted), ranks[0], 1, -1)


def composed(weights: Sequence[Tensor]) -> Tensor:
    """The one weight that does what the factors do."""
    vertical, horizontal = weights
    return torch.einsum("orb,ria->oiab", horizontal[:, :, 0], vertical[..., 0])


def parts(layer: Convolution, ranks: tuple[int, ...]) -> tuple[Part, ...]:
    """The layers in the place of one."""
    return (
        Convolution(
            in_channels=layer.in_channels, out_channels=ranks[0], kernel_size=(layer.kernel_size[0], 1),
            stride=(layer.stride[0], 1), padding=(layer.padding[0], 0), dilation=(layer.dilation[0], 1),
        ),
        Convolution(
            in_channels=ranks[0], out_channels=layer.out_channels, kernel_size=(1, layer.kernel_size[1]),
            stride=(1, layer.stride[1]), padding=(0, layer.padding[1]), dilation=(1, layer.dilation[1]),
            bias=layer.bias,
        ),
    )  # fmt: skip


def _vertical(known: Known, rank: int) -> Tensor:
    """V of shape (rank, channels, rows)."""
    stacked = known.weight.permute(0, 3, 1, 2).flatten(2).flatten(0, 1)
    seen = known.averaged("iabjcb->iajc")
    found = leading(stacked, None if seen is None else seen.flatten(2).flatten(0, 1))
    return found.rows[:rank].reshape(rank, -1, known.kernel[0])


def _regression(known: Known, vertical: Tensor) -> Regression:
    def project(x: Tensor) -> Tensor:
        seen = x.reshape(-1, *known.weight.shape[1:])
        return torch.einsum("niab,ria->nrb", seen, vertical.to(x.dtype)).flatten(1)

    return Regression.of(known.flat, known.inputs, project)
