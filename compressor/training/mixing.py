"""Blended images with blended labels: mixup (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al. 2019,
arXiv:1905.04899)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.data.images import Batch

#: From images and their partners (N, C, H, W), in any size, to what is learnt from.
Blend = Callable[[Tensor, Tensor], Tensor]

#: Both parameters of the Beta distribution from which the weight of the first image is drawn, by the papers.
_ALPHA: Mapping[str, float] = {"mixup": 0.2, "cutmix": 1.0}


def mixed(batch: Batch, kind: str, *, classes: int | None) -> Batch:
    """Each image blended with another of the batch; `soft` has the shares of the classes. Draws from torch's generator.

    The batch's images are (N, C, H, W); `classes` is the width of the logits, none where the images have no labels.
    Others see the same blends in their size.
    """
    weight = float(torch.distributions.Beta(_ALPHA[kind], _ALPHA[kind]).sample())
    partner = torch.randperm(len(batch.y)).to(batch.y.device)
    height, width = batch.x.shape[-2:]
    blend, weight = _BLENDS[kind]((height, width), weight)
    return replace(
        batch,
        x=blend(batch.x, batch.x[partner]),
        soft=None if classes is None else _shares(batch.y, partner, weight, classes),
        others=lambda: tuple(blend(one, one[partner]) for one in batch.others()),
    )


def _shares(labels: Tensor, partner: Tensor, weight: float, classes: int) -> Tensor:
    """(N, classes): how much of each class is in each blend."""
    sure = F.one_hot(labels, classes).to(torch.float32)
    return weight * sure + (1 - weight) * sure[partner]


def _mixup(size: tuple[int, int], weight: float) -> tuple[Blend, float]:
    del size
    return lambda x, other: weight * x + (1 - weight) * other, weight


def _cutmix(size: tuple[int, int], weight: float) -> tuple[Blend, float]:
    height, width = size
    side = math.sqrt(1 - weight)
    down, across = _span(height, side), _span(width, side)

    def pasted(x: Tensor, other: Tensor) -> Tensor:
        rows, columns = _scaled(down, x.shape[-2] / height), _scaled(across, x.shape[-1] / width)
        found = x.clone()
        found[..., rows, columns] = other[..., rows, columns]
        return found

    # What was cut off at the border counts for the first image.
    return pasted, 1 - (down[1] - down[0]) * (across[1] - across[0]) / (height * width)


def _span(length: int, part: float) -> tuple[int, int]:
    """Where a piece of this part of the length begins and ends, around a centre that is drawn."""
    centre, half = int(torch.randint(length, ())), int(length * part) // 2
    return max(0, centre - half), min(length, centre + half)


def _scaled(span: tuple[int, int], scale: float) -> slice:
    return slice(round(span[0] * scale), round(span[1] * scale))


#: From the images' size and a weight to how images are blended with their partners, and the weight of the first.
_BLENDS: Mapping[str, Callable[[tuple[int, int], float], tuple[Blend, float]]] = {"mixup": _mixup, "cutmix": _cutmix}
