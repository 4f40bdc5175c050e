"""Distances between the logits of student and teacher, each (N, classes); KL and squared error are the training's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.training.objectives import kl_divergence

#: Deviations below this are rounding as much as anything: what they say counts for less.
_LEAST, _LEAST_NORM = 1e-7, 1e-5


def standardized(logits: Tensor) -> Tensor:
    """Each image's logits less their mean, by their standard deviation (Sun et al. 2024, arXiv:2403.01427, alg. 1)."""
    centred = logits - logits.mean(1, keepdim=True)
    return centred / logits.std(1, correction=0, keepdim=True).clamp_min(_LEAST)


def decoupled(
    student: Tensor, teacher: Tensor, target: Tensor, *, temperature: float, target_weight: float, others_weight: float
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD): KL of the target against the rest, and among the rest, mean over the batch.

    `target` (N,) is the index of each image's class; Zhao et al. 2022, arXiv:2203.08679, section 3.
    """
    learnt, told = student / temperature, teacher / temperature
    binary = kl_divergence(_binary(learnt, target), _binary(told, target), temperature=1.0)
    rest = kl_divergence(_without(learnt, target), _without(told, target), temperature=1.0)
    return (target_weight * binary + others_weight * rest) * temperature**2


def _without(logits: Tensor, target: Tensor) -> Tensor:
    """The logits (N, classes - 1) of the classes that are not the target."""
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, target[:, None], value=False)
    return logits[others].view(len(logits), -1)


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    """The logits (N, 2) of the target, and of all other classes together."""
    return torch.stack((logits.gather(1, target[:, None])[:, 0], _without(logits, target).logsumexp(1)), dim=1)


def correlated(student: Tensor, teacher: Tensor, *, temperature: float, inter: float, intra: float) -> Tensor:
    """One minus Pearson's correlation of the probabilities, over each image's classes and over each class's images.

    Huang et al. 2022, arXiv:2205.10536, section 3. There is no factor T^2: a correlation knows no size.
    """
    learnt, told = (F.softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return inter * (1 - pearson(learnt, told)).mean() + intra * (1 - pearson(learnt.T, told.T)).mean()


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """The correlation (N,) of the rows of two (N, K); 0 where a row does not vary."""
    centred = [rows - rows.mean(1, keepdim=True) for rows in (first, second)]
    return F.cosine_similarity(centred[0], centred[1], dim=1, eps=_LEAST_NORM)
