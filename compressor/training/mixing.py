"""Blended images with blended labels: mixup (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al. 2019,
arXiv:1905.04899)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.data.images import Batch

#: Both parameters of the Beta distribution from which the weight of the first image is drawn, by the papers.
_ALPHA: Mapping[str, float] = {"mixup": 0.2, "cutmix": 1.0}


def mixed(batch: Batch, kind: str, *, classes: int | None) -> Batch:
    """Each image blended with another of the batch; `soft` has the shares of the classes. Draws from torch's generator.

    The batch's images are (N, C, H, W); `classes` is the width of the logits, none where the images have no labels.
    """
    weight = float(torch.distributions.Beta(_ALPHA[kind], _ALPHA[kind]).sample())
    partner = torch.randperm(len(batch.y)).to(batch.y.device)
    x, weight = _BLENDS[kind](batch.x, batch.x[partner], weight)
    if classes is None:
        return replace(batch, x=x)
    labels = F.one_hot(batch.y, classes).to(x.dtype)
    return replace(batch, x=x, soft=weight * labels + (1 - weight) * labels[partner])


def _mixup(x: Tensor, other: Tensor, weight: float) -> tuple[Tensor, float]:
    return weight * x + (1 - weight) * other, weight


def _cutmix(x: Tensor, other: Tensor, weight: float) -> tuple[Tensor, float]:
    height, width = x.shape[-2:]
    side = math.sqrt(1 - weight)
    top, bottom = _span(height, side)
    left, right = _span(width, side)
    pasted = x.clone()
    pasted[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    # What was cut off at the border counts for the first image.
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, part: float) -> tuple[int, int]:
    """Where a piece of this part of the length begins and ends, around a centre that is drawn."""
    centre, half = int(torch.randint(length, ())), int(length * part) // 2
    return max(0, centre - half), min(length, centre + half)


#: From images, their partners and a weight to what is learnt from, and the weight of the first.
_BLENDS: Mapping[str, Callable[[Tensor, Tensor, float], tuple[Tensor, float]]] = {"mixup": _mixup, "cutmix": _cutmix}
