"""Several 3x3 convolutions in the place of one with a larger kernel (Szegedy et al. 2016, arXiv:1512.00567, sec. 3.1).

Two 3x3 see what a 5x5 sees, with 18 products for 25; three see what a 7x7 sees, with 27 for 49. Nothing lies between
them, so that together they are one large kernel again, which can be compared with the original.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.models.parts import Convolution, Pair

#: Rounds in which the two factors of a kernel are solved for in turn.
_ROUNDS = 40
#: Starts from which a kernel of one channel is factored: it has local optima, which one of many hardly has.
_STARTS = 8
#: Of the mean square of the features: keeps a factor's equations regular where a channel is empty.
_RIDGE = 1e-6


@dataclass(frozen=True)
class SmallKernels:
    """A chain of 3x3 convolutions of the width of what the layer gives."""

    name = "small_kernels"
    smallest = 5

    def misfit(self, layer: Convolution) -> str | None:
        """Why this is not for such a layer; null where it is."""
        height, width = layer.kernel_size
        if height != width or height % 2 == 0 or height < 5:
            return f"has a kernel of {height}x{width}"
        return "is dilated" if layer.dilation != (1, 1) else None

    def parts(self, layer: Convolution) -> tuple[Convolution, ...]:
        """The layers; the last has the stride, which skips what the large kernel skips, and the bias."""
        count = (layer.kernel_size[0] - 1) // 2
        widths = [layer.in_channels, *[layer.out_channels] * count]
        plain = [
            Convolution(
                in_channels=before, out_channels=after, groups=layer.groups, kernel_size=(3, 3), padding=padding
            )
            for before, after, padding in zip(widths, widths[1:], _shared(layer.padding, count), strict=False)
        ]
        return *plain[:-1], plain[-1].model_copy(update={"stride": layer.stride, "bias": layer.bias})

    def weights(self, weight: Tensor, groups: int) -> tuple[Tensor, ...]:
        """Weights whose product is near to one of shape (out, in / groups, size, size), for each of the layers."""
        grouped = weight.detach().double().reshape(groups, -1, *weight.shape[1:])
        return tuple(part.flatten(0, 1).to(weight.dtype) for part in _chain(grouped))


def _shared(padding: Pair, count: int) -> Iterator[Pair]:
    """The padding, shared among so many layers as evenly as can be."""
    for number in range(count):
        yield (padding[0] + count - 1 - number) // count, (padding[1] + count - 1 - number) // count


def _chain(kernel: Tensor) -> Iterator[Tensor]:
    """The factors of a kernel (groups, out, in, size, size), the first to see the image first."""
    if kernel.shape[-1] == 3:
        yield kernel
        return
    first, second = _factors(kernel)
    yield from _chain(first)
    yield second


def _factors(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels of size - 2 and of 3, of which the second behind the first is nearest to one of this size.

    Alternating least squares: given one of the two, the other is the solution of linear equations. Of several starts
    the best is taken, group by group.
    """
    starts = _STARTS if kernel.shape[1] == kernel.shape[2] == 1 else 1
    second, many = _begun(kernel, starts), kernel.repeat(starts, 1, 1, 1, 1)
    for _ in range(_ROUNDS):
        first = _other(second.transpose(1, 2), many.transpose(1, 2)).transpose(1, 2)
        second = _other(first, many)
    left = (second.flatten(2) @ _design(first, 3) - many.flatten(2)).square().flatten(1).sum(1)
    groups = torch.arange(len(kernel), device=kernel.device)
    best = left.view(starts, -1).argmin(0) * len(kernel) + groups
    return first[best], second[best]


def _begun(kernel: Tensor, starts: int) -> Tensor:
    """Second factors (starts * groups, out, out, 3, 3) to begin with: each channel smoothed, and noise.

    The first has little noise, which parts its channels, and the others have much.
    """
    groups, out = kernel.shape[:2]
    noise = torch.randn(starts * groups, out, out, 3, 3, generator=torch.Generator().manual_seed(0)).to(kernel)
    noise[:groups] *= 0.01
    line = torch.tensor([0.25, 0.5, 0.25]).to(kernel)
    return torch.eye(out).to(kernel)[:, :, None, None] * torch.outer(line, line) + noise


def _other(known: Tensor, kernel: Tensor) -> Tensor:
    """The factor (groups, out, middle, rest, rest) that makes a kernel of one known.

    `known` is (groups, middle, in, some, some), the kernel (groups, out, in, size, size), rest = size - some + 1.
    """
    rest = kernel.shape[-1] - known.shape[-1] + 1
    design = _design(known, rest)
    products, wanted = design @ design.mT, design @ kernel.flatten(2).mT
    diagonal = products.diagonal(dim1=1, dim2=2)
    ridge = _RIDGE * diagonal.mean(1, keepdim=True).clamp_min(1e-12).expand_as(diagonal)
    found = torch.cholesky_solve(wanted, torch.linalg.cholesky(products + torch.diag_embed(ridge))).mT
    return found.reshape(*found.shape[:2], -1, rest, rest)


def _design(known: Tensor, rest: int) -> Tensor:
    """What each number of the other factor adds to the kernel: (groups, middle * rest * rest, in * size * size)."""
    size = known.shape[-1] + rest - 1
    wide = F.pad(known, [rest - 1] * 4)
    begins = [(rest - 1 - row, rest - 1 - column) for row in range(rest) for column in range(rest)]
    shifts = [wide[..., top : top + size, left : left + size] for top, left in begins]
    return torch.stack(shifts, dim=2).flatten(3).flatten(1, 2)
