"""Where images come from: a file that can be read again, for others than the network that it was read for.

Two readings lie side by side, instead of one in the larger size that is shrunk for the student: so the student sees the
very pixels that it sees alone, and nothing large is held unless a teacher looks at it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Self

import torch
from torch import Tensor

from contract.model import Channels, channel_count


@dataclass(frozen=True)
class Sight:
    """How another network sees the images: the same part of each picture, in a size and colours of its own."""

    #: Height and width, in pixels.
    size: tuple[int, int]
    channels: Channels

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return channel_count(self.channels), *self.size


#: From a sight and places in the file (M,) to uint8 pixels (M, channels, height, width).
Album = Callable[[Sight, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Look:
    """What a sight shows of some images."""

    #: From places among them (M,), on the CPU, to pixels (M, channels, height, width): uint8, or float of 0 to 1.
    at: Callable[[Tensor], Tensor]
    #: What each image would take if it were held; 0 where nothing is read.
    bytes_read: int = 0

    def chosen(self, index: Tensor) -> Self:
        """The same of the images at `index` (M,)."""
        return replace(self, at=partial(_among, self.at, index))

    def held(self, count: int) -> "Look":
        """The same, where it reads, with all of the images, which are so many, read and held."""
        return Look(partial(_rows, self.at(torch.arange(count)))) if self.bytes_read else self


@dataclass(frozen=True, eq=False)
class Origin:
    """The file of some images, and where they stand in it."""

    #: Opens the file, which stays open as long as the album is in use.
    open: Callable[[], Album]
    #: int64, (N,): the place of each image in the file.
    places: Tensor
    #: int32, (N, 2): height and width of the part of each picture that is seen, in pixels of the file.
    sides: Tensor

    def chosen(self, index: Tensor) -> Self:
        """The same of the images at `index` (M,)."""
        return replace(self, places=self.places[index], sides=self.sides[index])

    def smaller_than(self, size: tuple[int, int]) -> int:
        """How many of the images are less high or less wide in the file."""
        return int((self.sides < self.sides.new_tensor(size)).any(1).sum())

    def within(self, sight: Sight) -> tuple[int, int]:
        """The sight's height and width, as far as any of the images has as many pixels in the file."""
        height, width = (int(side) for side in self.sides.max(0).values)
        return min(height, sight.size[0]), min(width, sight.size[1])

    def look(self, album: Callable[[], Album], sight: Sight) -> Look:
        """What the sight shows; the album is not opened before somebody looks."""
        return Look(partial(_read, album, sight, self.places), bytes_read=prod(sight.input_shape))


def _rows(pixels: Tensor, index: Tensor) -> Tensor:
    return pixels[index]


def _among(at: Callable[[Tensor], Tensor], chosen: Tensor, index: Tensor) -> Tensor:
    return at(chosen[index])


def _read(album: Callable[[], Album], sight: Sight, places: Tensor, index: Tensor) -> Tensor:
    return album()(sight, places[index])
