"""The terms of an objective that compare what layers give out, and the adapters that they learn.

What a term needs of the teacher does not change with what is learnt, so it can be heard once and kept: heads say what
it is (`told`), and compare with that.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.distillation.feature import Pair
from compressor.distillation.features import (
    attention,
    attention_transfer,
    contrast,
    relational_angles,
    relational_distances,
    similarity_preserving,
)
from compressor.distillation.lesson import Lesson
from compressor.distillation.memory import Memory, others_of
from contract.methods.objectives import Attention, Crd, Fitnet, LayerTerm, Rkd, Similarity


class Head(nn.Module, ABC):
    """Compares what two layers give out."""

    @abstractmethod
    def told(self, teacher: Tensor) -> Tensor:
        """What it needs of what the teacher's layer gives out, (N, columns)."""


class Comparison(nn.Module):
    """A distance of features: the mean over pairs of layers, each compared by a head of its own."""

    def __init__(self, name: str, pairs: Sequence[Pair], heads: Sequence[Head]) -> None:
        super().__init__()
        #: By which a lesson has what the teacher says to it.
        self.name = name
        #: What is compared with what.
        self.pairs = tuple(pairs)
        self.heads = nn.ModuleList(heads)
        self._headed = tuple(zip(self.pairs, heads, strict=True))

    @property
    def columns(self) -> list[int]:
        """How many numbers the teacher says of an image, for each pair."""
        empty = {pair.teacher.name: torch.zeros(1, *pair.teacher.shape) for pair in self.pairs}
        return [part.shape[1] for part in self.told(empty)]

    def told(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """What it needs of what the teacher's layers of these names give out, (N, columns) for each pair."""
        return [head.told(features[pair.teacher.name]) for pair, head in self._headed]

    def forward(self, lesson: Lesson) -> Tensor:
        """A scalar."""
        heard = zip(self._headed, lesson.told[self.name], strict=True)
        return torch.stack([_found(head, pair, told, lesson) for (pair, head), told in heard]).mean()


def _found(head: Head, pair: Pair, told: Tensor, lesson: Lesson) -> Tensor:
    features = lesson.student[pair.student.name], told
    # A memory must know which images they are.
    distance: Tensor = head(*features, lesson.batch.index) if isinstance(head, MemoryContrast) else head(*features)
    return distance


def comparison(name: str, term: LayerTerm, pairs: Sequence[Pair], *, images: int) -> Comparison:
    """The term over these pairs, learnt from so many images; adapters begin as drawn by torch's generator."""
    return Comparison(name, pairs, [_head(term, pair, images) for pair in pairs])


def _head(term: LayerTerm, pair: Pair, images: int) -> Head:
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


def _contrast(term: Crd, pair: Pair, images: int) -> Head:
    if term.negatives is None:
        return Contrast(pair, width=term.width, temperature=term.temperature)
    return MemoryContrast(pair, width=term.width, temperature=term.temperature, negatives=term.negatives, images=images)


class Hint(Head):
    """Mean squared error of maps, the student's behind a 1x1 convolution where it has another number of channels.

    Romero et al. 2015, arXiv:1412.6550, equation 3; of tokens, the convolution is a linear layer. Maps of other sizes
    are averaged to the smaller one.
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self._pair = pair
        learnt, told = pair.student.channels, pair.teacher.channels
        self.adapter: nn.Module = nn.Identity() if learnt == told else nn.Conv2d(learnt, told, 1)

    def told(self, teacher: Tensor) -> Tensor:
        """All of the map, on the common grid."""
        return self._pair.teachers_map(teacher).flatten(1)

    def forward(self, student: Tensor, told: Tensor) -> Tensor:
        """A scalar."""
        return F.mse_loss(self.adapter(self._pair.students_map(student)).flatten(1), told)


class AttentionMaps(Head):
    """Attention transfer between maps, averaged to the smaller size; tokens count as maps of their patches."""

    def __init__(self, pair: Pair, *, power: float) -> None:
        super().__init__()
        self._pair, self._power = pair, power

    def told(self, teacher: Tensor) -> Tensor:
        """The attention, on the common grid."""
        return attention(self._pair.teachers_map(teacher), power=self._power)

    def forward(self, student: Tensor, told: Tensor) -> Tensor:
        """A scalar."""
        return attention_transfer(attention(self._pair.students_map(student), power=self._power), told)


class Similarities(Head):
    """Similarity preserving between features of any shape."""

    def told(self, teacher: Tensor) -> Tensor:
        """All of it: which images are in a batch changes from epoch to epoch."""
        return teacher.flatten(1)

    def forward(self, student: Tensor, told: Tensor) -> Tensor:
        """A scalar."""
        return similarity_preserving(student, told)


class _Averaged(Head):
    """Compares the means over all places."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self._pair = pair

    def told(self, teacher: Tensor) -> Tensor:
        """A number for each channel."""
        return self._pair.teacher.as_vector(teacher)


class Relations(_Averaged):
    """Relational distillation of both potentials, on the mean over all places."""

    def __init__(self, pair: Pair, *, distance: float, angle: float) -> None:
        super().__init__(pair)
        self._distance, self._angle = distance, angle

    def forward(self, student: Tensor, told: Tensor) -> Tensor:
        """A scalar."""
        vectors = self._pair.student.as_vector(student), told
        return self._distance * relational_distances(*vectors) + self._angle * relational_angles(*vectors)


class _Embedding(_Averaged):
    """Both networks' means over all places, each behind a linear layer of its own."""

    def __init__(self, pair: Pair, *, width: int, temperature: float) -> None:
        super().__init__(pair)
        self._temperature = temperature
        self.student = nn.Linear(pair.student.channels, width)
        self.teacher = nn.Linear(pair.teacher.channels, width)

    def _embedded(self, student: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Of shape (N, width) each."""
        return self.student(self._pair.student.as_vector(student)), self.teacher(told)


class Contrast(_Embedding):
    """The contrastive objective among the images of a batch."""

    def forward(self, student: Tensor, told: Tensor) -> Tensor:
        """A scalar."""
        return contrast(*self._embedded(student, told), temperature=self._temperature)


class MemoryContrast(_Embedding):
    """The same against what is remembered of other images: each network's own, by the other's memory of it."""

    def __init__(self, pair: Pair, *, width: int, temperature: float, negatives: int, images: int) -> None:
        super().__init__(pair, width=width, temperature=temperature)
        self._negatives, self._images = negatives, images
        self.students, self.teachers = Memory(images, width), Memory(images, width)

    def forward(self, student: Tensor, told: Tensor, index: Tensor) -> Tensor:
        """A scalar; `index` (N,) tells which images they are, and both memories take them in."""
        learnt, told = (F.normalize(one, dim=1) for one in self._embedded(student, told))
        index = index.to(student.device)
        others = others_of(index, self._negatives, images=self._images)
        found = self.teachers.contrast(learnt, index, others, temperature=self._temperature)
        found = found + self.students.contrast(told, index, others, temperature=self._temperature)
        self.students.remember(learnt, index)
        self.teachers.remember(told, index)
        return found / 2
