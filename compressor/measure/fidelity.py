"""How close two networks' answers are."""

from math import inf, log10

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.measure.accuracy import top1
from contract.report import Fidelity


def agreement(reference: Tensor, other: Tensor) -> float:
    """Part of the images that both put into the same class."""
    return float((top1(reference) == top1(other)).double().mean())


def divergence(reference: Tensor, other: Tensor) -> float:
    """KL(softmax(reference) || softmax(other)), mean over the images, in nats."""
    told, found = (F.log_softmax(logits.double(), dim=1) for logits in (reference, other))
    return float(F.kl_div(found, told, reduction="batchmean", log_target=True))


def max_difference(reference: Tensor, other: Tensor) -> float:
    """The largest difference between two logits."""
    return float((reference - other).abs().max())


def sqnr_db(reference: Tensor, other: Tensor) -> float | None:
    """Signal to quantization-noise ratio in decibels: 10 log10(sum x^2 / sum (x - y)^2).

    None where nothing differs, or where it cannot be told because numbers are too large.
    """
    # In single precision, which is exact to a hundredth of a decibel: activations are tens of millions of numbers.
    noise, signal = (float(torch.linalg.vector_norm(part)) for part in (reference - other, reference))
    return 20 * log10(signal / noise) if 0 < noise < inf and 0 < signal < inf else None


def fidelity(reference: Tensor, other: Tensor) -> Fidelity:
    """Logits `other` against logits `reference`, both of shape (images, classes)."""
    return Fidelity(
        top1_agreement=agreement(reference, other),
        max_abs_difference=max_difference(reference, other),
        sqnr_db=sqnr_db(reference, other),
    )
