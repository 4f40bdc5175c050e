"""The terms of an objective that compare what layers give out, and the adapters that they learn."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.distillation.feature import Pair
from compressor.distillation.features import (
    attention_transfer,
    contrast,
    relational_angles,
    relational_distances,
    similarity_preserving,
)
from compressor.distillation.lesson import Lesson
from compressor.distillation.memory import Memory, others_of
from contract.methods.objectives import Attention, Crd, Fitnet, LayerTerm, Rkd, Similarity


class Comparison(nn.Module):
    """A distance of features: the mean over pairs of layers, each compared by a head of its own."""

    def __init__(self, pairs: Sequence[Pair], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        #: What is compared with what.
        self.pairs = tuple(pairs)
        self.heads = nn.ModuleList(heads)

    def forward(self, lesson: Lesson) -> Tensor:
        """A scalar."""
        found = [_found(head, pair, lesson) for pair, head in zip(self.pairs, self.heads, strict=True)]
        return torch.stack(found).mean()


def _found(head: nn.Module, pair: Pair, lesson: Lesson) -> Tensor:
    features = lesson.student[pair.student.name], lesson.teacher[pair.teacher.name]
    # A memory must know which images they are.
    distance: Tensor = head(*features, lesson.batch.index) if isinstance(head, MemoryContrast) else head(*features)
    return distance


def comparison(term: LayerTerm, pairs: Sequence[Pair], *, images: int) -> Comparison:
    """The term over these pairs, learnt from so many images; adapters begin as drawn by torch's generator."""
    return Comparison(pairs, [_head(term, pair, images) for pair in pairs])


def _head(term: LayerTerm, pair: Pair, images: int) -> nn.Module:
    match term:
        case Fitnet():
            return Hint(pair)
        case Attention():
            return AttentionMaps(pair, power=term.power)
        case Similarity():
            return Similarities()
        case Rkd():
            return Relations(pair, distance=term.distance, angle=term.angle)
        case Crd():
            return _contrast(term, pair, images)


def _contrast(term: Crd, pair: Pair, images: int) -> nn.Module:
    if term.negatives is None:
        return Contrast(pair, width=term.width, temperature=term.temperature)
    return MemoryContrast(pair, width=term.width, temperature=term.temperature, negatives=term.negatives, images=images)


class Hint(nn.Module):
    """Mean squared error of maps, the student's behind a 1x1 convolution where it has another number of channels.

    Romero et al. 2015, arXiv:1412.6550, equation 3; of tokens, the convolution is a linear layer. Maps of other sizes
    are averaged to the smaller one.
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self._pair = pair
        learnt, told = pair.student.channels, pair.teacher.channels
        self.adapter: nn.Module = nn.Identity() if learnt == told else nn.Conv2d(learnt, told, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar."""
        learnt, told = self._pair.maps(student, teacher)
        return F.mse_loss(self.adapter(learnt), told)


class AttentionMaps(nn.Module):
    """Attention transfer between maps, averaged to the smaller size; tokens count as maps of their patches."""

    def __init__(self, pair: Pair, *, power: float) -> None:
        super().__init__()
        self._pair, self._power = pair, power

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar."""
        return attention_transfer(*self._pair.maps(student, teacher), power=self._power)


class Similarities(nn.Module):
    """Similarity preserving between features of any shape."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar."""
        return similarity_preserving(student, teacher)


class Relations(nn.Module):
    """Relational distillation of both potentials, on the mean over all places."""

    def __init__(self, pair: Pair, *, distance: float, angle: float) -> None:
        super().__init__()
        self._pair, self._distance, self._angle = pair, distance, angle

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar."""
        vectors = self._pair.vectors(student, teacher)
        return self._distance * relational_distances(*vectors) + self._angle * relational_angles(*vectors)


class _Embedding(nn.Module):
    """Both networks' means over all places, each behind a linear layer of its own."""

    def __init__(self, pair: Pair, *, width: int, temperature: float) -> None:
        super().__init__()
        self._pair, self._temperature = pair, temperature
        self.student = nn.Linear(pair.student.channels, width)
        self.teacher = nn.Linear(pair.teacher.channels, width)

    def _embedded(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Of shape (N, width) each."""
        learnt, told = self._pair.vectors(student, teacher)
        return self.student(learnt), self.teacher(told)


class Contrast(_Embedding):
    """The contrastive objective among the images of a batch."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar."""
        return contrast(*self._embedded(student, teacher), temperature=self._temperature)


class MemoryContrast(_Embedding):
    """The same against what is remembered of other images: each network's own, by the other's memory of it."""

    def __init__(self, pair: Pair, *, width: int, temperature: float, negatives: int, images: int) -> None:
        super().__init__(pair, width=width, temperature=temperature)
        self._negatives, self._images = negatives, images
        self.students, self.teachers = Memory(images, width), Memory(images, width)

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """A scalar; `index` (N,) tells which images they are, and both memories take them in."""
        learnt, told = (F.normalize(one, dim=1) for one in self._embedded(student, teacher))
        index = index.to(student.device)
        others = others_of(index, self._negatives, images=self._images)
        found = self.teachers.contrast(learnt, index, others, temperature=self._temperature)
        found = found + self.students.contrast(told, index, others, temperature=self._temperature)
        self.students.remember(learnt, index)
        self.teachers.remember(told, index)
        return found / 2
