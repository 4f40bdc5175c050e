"""How often a network is right, how sure that is, and how much of it was lost."""

from collections.abc import Iterable, Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.measure.counting import evaluating
from contract.report import Accuracy, PairedDrop

#: The normal quantile of a 95 % interval.
Z = 1.959963984540054

BATCH = 64
_BINS = 15


def answers(module: nn.Module, images: Images, *, device: torch.device | None = None) -> Tensor:
    """The network's logits for every image in order, float32 of shape (images, classes) on the CPU."""
    where = device or torch.device("cpu")
    return answers_to(((batch.x,) for batch in images.batches(BATCH, device=where)), module, device=where)


def answers_to(batches: Iterable[Sequence[Tensor]], module: nn.Module, *, device: torch.device | None = None) -> Tensor:
    """The network's logits for batches of what it takes: images (N, C, H, W), and the same in other sights."""
    where = device or torch.device("cpu")
    with evaluating(module.to(where)):
        logits = [module(*(x.to(where) for x in inputs)).float().cpu() for inputs in batches]
    return torch.cat(logits)


def top1(logits: Tensor) -> Tensor:
    """The class of each answer; shape (images,)."""
    return logits.argmax(dim=1)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927, "Probable inference", JASA 22)."""
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy(logits: Tensor, labels: Tensor) -> Accuracy:
    """Top-1 accuracy of `logits` (N, K) against `labels` (N,)."""
    return part_of(top1(logits) == labels)


def part_of(right: Tensor) -> Accuracy:
    """The accuracy of a network that is right on these of the images (N,)."""
    n, hits = len(right), int(right.sum())
    return Accuracy(value=hits / n, n=n, ci95=wilson(hits, n))


def loss(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy, in nats."""
    return float(F.cross_entropy(logits.double(), labels))


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """How far confidence is from being right: its mean distance from accuracy over bins of equal width.

    The expected calibration error of Guo et al. 2017, equation 5, with their 15 bins of the largest probability.
    """
    confidence, found = logits.double().softmax(1).max(1)
    bins = (confidence * _BINS).ceil().long().clamp(1, _BINS) - 1
    gap = confidence - (found == labels).double()
    sums = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, gap)
    return float(sums.abs().sum() / len(labels))


def paired_drop(before: Tensor, after: Tensor, labels: Tensor) -> PairedDrop:
    """Accuracy lost from the logits `before` to the logits `after`, on the same images."""
    return lost_between(top1(before) == labels, top1(after) == labels)


def lost_between(was_right: Tensor, is_right: Tensor) -> PairedDrop:
    """Accuracy lost where a network was right on some of the images (N,) and another one is on others.

    Only images on which the two differ count, as in McNemar's test (1947, Psychometrika 12). The interval is the
    adjusted Wald interval of Bonett and Price (2012, J. Educ. Behav. Stat. 37, eq. 4): the plain one has no width
    where the two never differ, however few the images.
    """
    lost, won, n = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum()), len(was_right)
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    shift = p_lost - p_won
    half = Z * sqrt((p_lost + p_won - shift * shift) / (n + 2))
    return PairedDrop(value=(lost - won) / n, n=n, ci95=(max(-1.0, shift - half), min(1.0, shift + half)))
