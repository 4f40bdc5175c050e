"""What a layer gives out: a vector, tokens, or a map; and how two of them are laid one over the other."""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch.nn.functional as F
from torch import Tensor


class Kind(StrEnum):
    """How what a layer gives out lies in memory."""

    #: (N, C).
    VECTOR = "vector"
    #: (N, tokens, C): transformers; the patches of the image come last, in rows.
    TOKENS = "tokens"
    #: (N, C, H, W).
    MAP = "map"
    #: (N, H, W, C), as Swin has it.
    MAP_CHANNELS_LAST = "map_channels_last"


@dataclass(frozen=True)
class Feature:
    """What one layer of a network gives out."""

    #: The layer.
    name: str
    #: Of one image's, so without the batch.
    shape: tuple[int, ...]
    #: Height and width of the image that the network sees.
    image: tuple[int, int]

    @property
    def kind(self) -> Kind:
        """How it lies; a map whose first two sides have the image's proportions, and its last two not, ends in C."""
        if len(self.shape) < 3:
            return Kind.TOKENS if len(self.shape) == 2 else Kind.VECTOR
        first, middle, last = self.shape
        proportional = self._proportional(first, middle) and not self._proportional(middle, last)
        return Kind.MAP_CHANNELS_LAST if proportional else Kind.MAP

    def _proportional(self, height: int, width: int) -> bool:
        # Within one row or column, by which strides round.
        return abs(height * self.image[1] - width * self.image[0]) < max(self.image)

    @property
    def channels(self) -> int:
        """How many numbers describe one place."""
        return self.shape[0] if self.kind is Kind.MAP else self.shape[-1]

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns into which it parts the image; of tokens, those of the largest grid that they can fill."""
        match self.kind:
            case Kind.VECTOR:
                return (1, 1)
            case Kind.MAP:
                return self.shape[1], self.shape[2]
            case Kind.MAP_CHANNELS_LAST:
                return self.shape[0], self.shape[1]
            case Kind.TOKENS:
                return self._grid(self.shape[0])

    def _grid(self, tokens: int) -> tuple[int, int]:
        height, width = self.image
        rows = max(1, math.isqrt(tokens * height // width))
        return rows, max(1, min(tokens // rows, round(rows * width / height)))

    @property
    def octave(self) -> int:
        """How often the sides of the image have been halved."""
        (height, width), (rows, columns) = self.image, self.places
        return round(math.log2(height * width / (rows * columns)) / 2)

    def as_map(self, features: Tensor) -> Tensor:
        """(N, C, H, W); class tokens, which stand before the patches, are left out."""
        rows, columns = self.places
        match self.kind:
            case Kind.VECTOR:
                return features[:, :, None, None]
            case Kind.MAP:
                return features
            case Kind.MAP_CHANNELS_LAST:
                return features.permute(0, 3, 1, 2)
            case Kind.TOKENS:
                return features[:, -rows * columns :].transpose(1, 2).reshape(-1, self.channels, rows, columns)

    def as_vector(self, features: Tensor) -> Tensor:
        """(N, C): the mean over all places, or over all tokens."""
        return features.mean(1) if self.kind is Kind.TOKENS else self.as_map(features).mean((2, 3))


@dataclass(frozen=True)
class Pair:
    """A layer of the student and one of the teacher, which are to give out the same."""

    student: Feature
    teacher: Feature

    @property
    def same_tokens(self) -> bool:
        """Whether both have as many tokens, which then stand for the same, class tokens among them."""
        kinds = {self.student.kind, self.teacher.kind}
        return kinds == {Kind.TOKENS} and self.student.shape[0] == self.teacher.shape[0]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the places in which both can be compared: the smaller height and width."""
        if self.same_tokens:
            return self.student.shape[0], 1
        (rows, columns), (others, across) = self.student.places, self.teacher.places
        return min(rows, others), min(columns, across)

    @property
    def places(self) -> int:
        """In how many places both can be compared."""
        return math.prod(self.grid)

    def students_map(self, features: Tensor) -> Tensor:
        """What the student gives out as (N, channels, rows, columns), averaged to the common grid."""
        return self._on_grid(self.student, features)

    def teachers_map(self, features: Tensor) -> Tensor:
        """What the teacher gives out, on the same grid."""
        return self._on_grid(self.teacher, features)

    def _on_grid(self, side: Feature, features: Tensor) -> Tensor:
        if self.same_tokens:
            return features.transpose(1, 2)[..., None]
        maps = side.as_map(features)
        return maps if maps.shape[2:] == self.grid else F.adaptive_avg_pool2d(maps, self.grid)
