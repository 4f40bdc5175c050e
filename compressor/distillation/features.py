"""Distances between what layers of student and teacher give out, each a mean over the batch or its pairs."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Images of a batch among which angles are measured: their number grows with the third power.
ANGLE_IMAGES = 64
_LEAST = 1e-12


def attention(maps: Tensor, *, power: float) -> Tensor:
    """Where maps (N, C, H, W) are large: the sum over channels of |A|^p, at length 1, (N, H * W).

    Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.1.
    """
    return F.normalize(maps.abs().pow(power).sum(1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two `attention`s of the same places.

    The square of the norm in equation 2 of the same paper, which has a gradient where both are the same.
    """
    return (student - teacher).square().sum(1).mean()


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the batch's similarities, (N, ...) each of any shape.

    Inner products of all images' features, each row of length 1 (Tung and Mori 2019, arXiv:1907.09682, section
    3).
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    rows = features.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)


def relational_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the distances between every two images, by their mean; vectors (N, C) of any two widths.

    Park et al. 2019, arXiv:1904.05068, section 3.2.1.
    """
    learnt, told = (_distances(vectors) for vectors in (student, teacher))
    return F.smooth_l1_loss(learnt, told)


def _distances(vectors: Tensor) -> Tensor:
    """Between every two, in units of their mean."""
    found = F.pdist(vectors)
    return found / found.mean().clamp_min(_LEAST)


def relational_angles(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the cosines of the angle at every image between every two others, among the first 64 images.

    Vectors (N, C) of any two widths; Park et al. 2019, section 3.2.2. 0 for fewer than three images.
    """
    learnt, told = (_cosines(vectors[:ANGLE_IMAGES]) for vectors in (student, teacher))
    distinct = _distinct(len(learnt), device=learnt.device)
    found = F.smooth_l1_loss(learnt, told, reduction="none")[distinct]
    return found.sum() / max(1, found.numel())


def _cosines(vectors: Tensor) -> Tensor:
    """(N, N, N): at the first image, between the ways to the second and to the third."""
    ways = vectors[None, :, :] - vectors[:, None, :]
    squares = ways.square().sum(2, keepdim=True)
    # Two images with the same features have no way between them, whose gradient must not be divided by nothing.
    ways = ways / squares.where(squares > _LEAST, 1.0).sqrt()
    return ways @ ways.transpose(1, 2)


def _distinct(count: int, *, device: torch.device) -> Tensor:
    same = torch.eye(count, dtype=torch.bool, device=device)
    return ~(same[:, :, None] | same[:, None, :] | same[None, :, :])


def contrast(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of finding an image's teacher vector by its student vector among the batch's, and the reverse.

    Vectors (N, C) of one width. The objective of Tian et al. 2020, arXiv:1910.10699, in the form of InfoNCE (van den
    Oord et al. 2018, equation 4): the negatives are the batch's other images. The paper's memory of all is another.
    """
    cosines = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / temperature
    own = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(cosines, own) + F.cross_entropy(cosines.T, own)) / 2
