"""Images changed at random, each in a way of its own, so that a network does not learn them by heart."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Augment = Literal["none", "crop", "crop_flip", "resized_crop_flip"]

#: How many numbers in [0, 1) decide what becomes of one image; the last is whether it is mirrored.
CHANCES: Mapping[Augment, int] = {"crop": 3, "crop_flip": 3, "resized_crop_flip": 5}

#: The least part of an image's area that is cut out of it, and how much wider or higher than the image itself.
_LEAST_AREA, _MOST_STRETCHED = 0.35, 4 / 3


def changed(pixels: Tensor, draws: Tensor, augment: Augment, *, as_in: tuple[int, int] | None = None) -> Tensor:
    """Images (N, C, H, W) changed by numbers (N, `CHANCES[augment]`); of the same shape and type.

    The same pictures in another height and width, `as_in`, show the same of them by the same numbers.
    """
    if augment == "resized_crop_flip":
        return _resized(pixels, draws)
    height, width = pixels.shape[-2:]
    return _shifted(pixels, draws, flip=augment == "crop_flip", as_in=as_in or (height, width))


def _shifted(pixels: Tensor, draws: Tensor, *, flip: bool, as_in: tuple[int, int]) -> Tensor:
    """Each image shifted by up to an eighth of its side, zeros moving in, and every other one mirrored.

    By whole pixels of the size `as_in`, so that the same part is seen in every size.
    """
    n, channels, height, width = pixels.shape
    down, below = _starts(draws[:, 0], height, as_in[0])
    right, beside = _starts(draws[:, 1], width, as_in[1])
    padded = F.pad(pixels, (right, right, down, down))
    count = partial(torch.arange, device=pixels.device)
    rows, columns = below.view(n, 1) + count(height), beside.view(n, 1) + count(width)
    if flip:
        columns = torch.where(draws[:, 2:3] < 0.5, columns, columns.flip(1))
    return padded[
        count(n).view(n, 1, 1, 1), count(channels).view(1, channels, 1, 1),
        rows.view(n, 1, height, 1), columns.view(n, 1, 1, width),
    ]  # fmt: skip


def _starts(draws: Tensor, side: int, as_in: int) -> tuple[int, Tensor]:
    """How many zeros stand on both ends of a side, and where (N,) each image begins among them."""
    most = max(1, as_in // 8)
    zeros = round(most * side / as_in)
    shifts = (draws * (2 * most + 1)).long() - most
    return zeros, zeros + (shifts * (side / as_in)).round().long()


def _resized(pixels: Tensor, draws: Tensor) -> Tensor:
    """A rectangle of each image at the image's own size, every other one mirrored (Szegedy et al. 2015, section 6).

    Bilinear, with what lies behind the border mirrored into it.
    """
    area, stretched, across, down, mirrored = draws.unbind(1)
    area = _LEAST_AREA + (1 - _LEAST_AREA) * area
    aspect = torch.exp((2 * stretched - 1) * math.log(_MOST_STRETCHED))
    width, height = (area * aspect).sqrt().clamp_max(1), (area / aspect).sqrt().clamp_max(1)
    none = torch.zeros_like(width)
    # From the places of the result to those of the image, both from -1 to 1.
    right = torch.stack([torch.where(mirrored < 0.5, width, -width), none, (1 - width) * (2 * across - 1)], 1)
    below = torch.stack([none, height, (1 - height) * (2 * down - 1)], 1)
    grid = F.affine_grid(torch.stack([right, below], 1), list(pixels.shape), align_corners=False)
    found = F.grid_sample(pixels.float(), grid, padding_mode="reflection", align_corners=False)
    return found if pixels.is_floating_point() else found.round_().clamp_(0, 255).to(pixels.dtype)
