"""1 x 1, k x 1 and 1 x k within each channel, 1 x 1 (Lebedev et al. 2015, arXiv:1412.6553).

A sum of products of vectors along outputs, channels, rows and columns, by alternating least squares (Carroll and Chang
1970) in coordinates in which the input's channels are uncorrelated. At last the last layer is fitted to what it sees.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.factorization.layer import Known
from compressor.factorization.regression import Project, Regression
from compressor.models.parts import Convolution, Part

_ROUNDS = 12
#: Of the mean of a product's diagonal: keeps terms from growing against each other without bound.
_RIDGE = 1e-4


def full_ranks(shape: Sequence[int]) -> tuple[int, ...]:
    """With so many terms any weight (outputs, channels, rows, columns) can be told exactly."""
    outputs, channels, rows, columns = shape
    return (min(outputs, channels) * rows * columns,)


def kept(known: Known, ranks: Sequence[tuple[int, ...]]) -> list[float]:
    """Which part of the output, in squares, each of the ranks keeps where its terms are not improved any more.

    That is what the largest singular values of the matrices at each place of the kernel have.
    """
    energies = torch.linalg.svdvals(_places(_whitened(known)[0])).square().flatten().sort(descending=True).values
    parts = energies.cumsum(0) / energies.sum()
    return [float(parts[rank - 1]) for (rank,) in ranks]


def factors(known: Known, ranks: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Weights (rank, channels, 1, 1), (rank, 1, rows, 1), (rank, 1, 1, columns) and (outputs, rank, 1, 1)."""
    whitened, root = _whitened(known)
    terms = _begun(whitened, ranks[0])
    for _ in range(_ROUNDS):
        terms = _improved(_places(whitened), terms)
    _, channels, rows, columns = terms
    if root is not None:
        channels = torch.linalg.solve_triangular(root.T, channels, upper=True)
    first, vertical, horizontal = channels.T[:, :, None, None], rows.T[:, None, :, None], columns.T[:, None, None]
    last = Regression.of(known.flat, known.inputs, _projection(known, channels, rows, columns)).best()
    return first, vertical, horizontal, last[:, :, None, None]


def composed(weights: Sequence[Tensor]) -> Tensor:
    """The one weight that does what the factors do."""
    first, vertical, horizontal, last = weights
    each = torch.einsum("ri,ra,rb->riab", first[:, :, 0, 0], vertical[:, 0, :, 0], horizontal[:, 0, 0])
    return torch.einsum("or,riab->oiab", last[:, :, 0, 0], each)


def parts(layer: Convolution, ranks: tuple[int, ...]) -> tuple[Part, ...]:
    """The layers in the place of one."""
    (rank,) = ranks
    return (
        Convolution(in_channels=layer.in_channels, out_channels=rank, kernel_size=(1, 1)),
        Convolution(
            in_channels=rank, out_channels=rank, groups=rank, kernel_size=(layer.kernel_size[0], 1),
            stride=(layer.stride[0], 1), padding=(layer.padding[0], 0), dilation=(layer.dilation[0], 1),
        ),
        Convolution(
            in_channels=rank, out_channels=rank, groups=rank, kernel_size=(1, layer.kernel_size[1]),
            stride=(1, layer.stride[1]), padding=(0, layer.padding[1]), dilation=(1, layer.dilation[1]),
        ),
        Convolution(in_channels=rank, out_channels=layer.out_channels, kernel_size=(1, 1), bias=layer.bias),
    )  # fmt: skip


#: Vectors in columns: along outputs, channels, rows and columns of the kernel.
_Terms = tuple[Tensor, Tensor, Tensor, Tensor]


def _whitened(known: Known) -> tuple[Tensor, Tensor | None]:
    """The weight that sees uncorrelated channels, and the root of the moments that they have on the average."""
    seen = known.averaged("iabjab->ij")
    if seen is None:
        return known.weight, None
    root = torch.linalg.cholesky(seen / (known.kernel[0] * known.kernel[1]))
    return torch.einsum("oiab,ij->ojab", known.weight, root), root


def _places(weight: Tensor) -> Tensor:
    """The matrices at each place of the kernel, (places, outputs, channels)."""
    return weight.flatten(2).permute(2, 0, 1)


def _begun(weight: Tensor, rank: int) -> _Terms:
    """The largest singular values and vectors of the matrices at each place: uncorrelated terms to begin with."""
    u, s, v = torch.linalg.svd(_places(weight), full_matrices=False)
    chosen = s.flatten().topk(rank).indices
    place, number = chosen // s.shape[1], chosen % s.shape[1]
    row, column = place // weight.shape[3], place % weight.shape[3]
    eyes = [torch.eye(n, dtype=weight.dtype) for n in weight.shape[2:]]
    return u[place, :, number].T * s[place, number], v[place, number].T, eyes[0][:, row], eyes[1][:, column]


def _improved(places: Tensor, terms: _Terms) -> _Terms:
    """One round: each kind of vector fitted to the others, scaled to length one but for the outputs."""
    outputs, channels, rows, columns = terms
    kernel = (len(rows), len(columns))
    through = places @ channels
    weights = torch.einsum("ar,br->abr", rows, columns).flatten(0, 1)
    outputs = _solved((through * weights.unsqueeze(1)).sum(0), channels, rows, columns)
    met = (through * outputs).sum(1).view(*kernel, -1)
    rows = _unit(_solved(torch.einsum("abr,br->ar", met, columns), outputs, channels, columns))
    columns = _unit(_solved(torch.einsum("abr,ar->br", met, rows), outputs, channels, rows))
    weights = torch.einsum("ar,br->abr", rows, columns).flatten(0, 1)
    back = ((places.transpose(1, 2) @ outputs) * weights.unsqueeze(1)).sum(0)
    return outputs, _unit(_solved(back, outputs, rows, columns)), rows, columns


def _solved(products: Tensor, *others: Tensor) -> Tensor:
    """The vectors (size, rank) that least squares give, from their products with the data and the other vectors."""
    gram = torch.stack([other.T @ other for other in others]).prod(0)
    ridge = _RIDGE * gram.diagonal().mean()
    damped = gram + ridge * torch.eye(len(gram), dtype=gram.dtype)
    solved: Tensor = torch.linalg.solve(damped, products.T).T
    return solved


def _unit(vectors: Tensor) -> Tensor:
    scaled: Tensor = vectors / vectors.norm(dim=0).clamp_min(1e-30)
    return scaled


def _projection(known: Known, channels: Tensor, rows: Tensor, columns: Tensor) -> Project:
    def project(x: Tensor) -> Tensor:
        seen = x.reshape(-1, *known.weight.shape[1:]).permute(2, 3, 0, 1)
        weights = torch.einsum("ar,br->abr", rows, columns)
        projected: Tensor = ((seen @ channels.to(x.dtype)) * weights.unsqueeze(2).to(x.dtype)).sum((0, 1))
        return projected

    return project
