"""1 x 1 to few channels, k x k between these, 1 x 1 back: Tucker-2 (Kim et al. 2016, arXiv:1511.06530).

Begun by the higher-order SVD and improved by orthogonal iteration (De Lathauwer et al. 2000) in coordinates in which
the input's channels are uncorrelated. At last the two layers behind the first are fitted to what it lets through.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.factorization.features import leading
from compressor.factorization.layer import Known
from compressor.factorization.regression import Regression
from compressor.models.parts import Convolution, Part

#: Of the orthogonal iteration; more change the fourth digit.
_ROUNDS = 4


def full_ranks(shape: Sequence[int]) -> tuple[int, ...]:
    """Channels within, behind the first and before the last layer, of a weight (outputs, channels, rows, columns)."""
    outputs, channels, rows, columns = shape
    return min(channels, outputs * rows * columns), min(outputs, channels * rows * columns)


def kept(known: Known, ranks: Sequence[tuple[int, ...]]) -> list[float]:
    """Which part of the output, in squares, each of the ranks keeps at least."""
    window = known.kernel[0] * known.kernel[1]
    regression = _regression(known, _first(known.weight, known, max(inner for inner, _ in ranks)))
    told = {inner: regression.spectrum(inner * window) for inner in {inner for inner, _ in ranks}}
    return [float(told[inner][min(outer, len(told[inner])) - 1]) for inner, outer in ranks]


def factors(known: Known, ranks: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Weights (inner, channels, 1, 1), (outer, inner, rows, columns) and (outputs, outer, 1, 1)."""
    inner, outer = ranks
    first = _first(known.weight, known, inner)
    for _ in range(_ROUNDS):
        first = _first(torch.einsum("op,oiab->piab", _outputs(known, first, outer), known.weight), known, inner)
    last, core = _regression(known, first).best_of_rank(outer)
    return first[:, :, None, None], core.view(outer, inner, *known.kernel), last[:, :, None, None]


def composed(weights: Sequence[Tensor]) -> Tensor:
    """The one weight that does what the factors do."""
    first, core, last = weights
    return torch.einsum("op,pqab,qi->oiab", last[:, :, 0, 0], core, first[:, :, 0, 0])


def parts(layer: Convolution, ranks: tuple[int, ...]) -> tuple[Part, ...]:
    """The layers in the place of one."""
    inner, outer = ranks
    return (
        Convolution(in_channels=layer.in_channels, out_channels=inner, kernel_size=(1, 1)),
        layer.model_copy(update={"in_channels": inner, "out_channels": outer, "bias": False}),
        Convolution(in_channels=outer, out_channels=layer.out_channels, kernel_size=(1, 1), bias=layer.bias),
    )


def _outputs(known: Known, first: Tensor, rank: int) -> Tensor:
    """The (outputs, rank) in which most of that lies which the channels of the first layer tell."""
    seen = known.averaged("iabjab->ij")
    loadings = first.T if seen is None else seen @ first.T
    told = torch.einsum("oiab,iq->oqab", known.weight, loadings).flatten(1)
    _, vectors = torch.linalg.eigh(told @ told.T)
    largest: Tensor = vectors[:, -rank:]
    return largest


def _first(weight: Tensor, known: Known, rank: int) -> Tensor:
    """The channels that tell most of what the weight gives; (rank, channels)."""
    stacked = weight.permute(0, 2, 3, 1).flatten(0, 2)
    return leading(stacked, known.averaged("iabjab->ij")).rows[:rank]


def _regression(known: Known, first: Tensor) -> Regression:
    def project(x: Tensor) -> Tensor:
        seen = x.reshape(-1, *known.weight.shape[1:])
        return torch.einsum("niab,qi->nqab", seen, first.to(x.dtype)).flatten(1)

    return Regression.of(known.flat, known.inputs, project)
