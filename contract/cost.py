"""What a network costs for images of any size, by arithmetic: nothing is built for it.

Maps are as wide as whole divisions of the image's width: strides divide it, kernels and padding add to it before, and
floor((floor((x + a) / s) + b) / t) is floor((x + a + s b) / (s t)) for whole numbers. So the multiply-accumulates of
convolutions, of linear layers and of attention in windows are a sum of a few terms, each for the positions of one map.
"""

from itertools import accumulate
from typing import NamedTuple

from contract.value import Value

#: Channels, height and width.
InputShape = tuple[int, int, int]
#: Channels and classes of the networks that are counted; what they are with others follows from these.
CHANNELS, CLASSES = 3, 1000


class Term(NamedTuple):
    """Multiply-accumulates for each position of a map of (height + `add`) // `per` rows and as many columns."""

    macs: int
    add: int = 0
    per: int = 1
    #: 1 for each position, 2 for each pair of them as in attention, 0 whatever the image.
    power: int = 0

    def at(self, height: int, width: int) -> int:
        """For one image of this size."""
        positions = (height + self.add) // self.per * ((width + self.add) // self.per)
        return self.macs * int(positions**self.power)


class Macs(Value):
    """Multiply-accumulates of one network for one image."""

    #: For each channel of the image: the first convolution's.
    per_channel: tuple[Term, ...]
    #: For each class: the head's.
    per_class: tuple[Term, ...]
    others: tuple[Term, ...]

    def at(self, shape: InputShape, num_classes: int) -> int:
        """For an image of this shape, and so many classes."""
        channels, height, width = shape
        parts = ((channels, self.per_channel), (num_classes, self.per_class), (1, self.others))
        return sum(times * term.at(height, width) for times, terms in parts for term in terms)


class FittedMacs(Value):
    """Multiply-accumulates of the network whose first strides are fitted to small images."""

    #: The largest shorter side of such images; the one before it in the list ends below.
    up_to: int
    macs: Macs


class Parameters(Value):
    """Numbers that a network learns."""

    per_channel: int
    per_class: int
    others: int

    def at(self, channels: int, num_classes: int) -> int:
        """For images of so many channels, and so many classes."""
        return self.per_channel * channels + self.per_class * num_classes + self.others


class TensorsFile(Value):
    """The safetensors file of a network's weights and statistics, which is as long as its header and its tensors."""

    #: Characters of the header without the offsets and without the number of classes.
    header: int
    #: Bytes of each tensor, in the file's order.
    tensors: tuple[int, ...]
    #: Places of those with a row for each class.
    per_class: tuple[int, ...]
    #: Places of those with a column for each channel of the image.
    per_channel: tuple[int, ...]

    def at(self, channels: int, num_classes: int) -> int:
        """Bytes for images of so many channels, and so many classes."""
        sizes = list(self.tensors)
        for place in self.per_class:
            sizes[place] = sizes[place] // CLASSES * num_classes
        for place in self.per_channel:
            sizes[place] = sizes[place] // CHANNELS * channels
        ends = list(accumulate(sizes))
        offsets = sum(len(str(end)) for end in ends) + sum(len(str(start)) for start in (0, *ends[:-1]))
        header = self.header + offsets + len(self.per_class) * len(str(num_classes))
        return 8 + header + -header % 8 + ends[-1]


class Sizes(Value):
    """Which images a network takes: those of so many pixels a side and more."""

    least: int = 1
    #: Sides must be multiples of it.
    step: int = 1
    #: Whether height and width must be the same.
    square: bool = False
    #: Height and width, where no others are known.
    only: tuple[int, int] | None = None

    def refusal(self, height: int, width: int) -> str | None:
        """Why an image of this size is not taken, as a sentence; None where it is."""
        if self.only not in (None, (height, width)):
            return f"It takes images of {'x'.join(map(str, self.only or ()))}; no other size is known to work."
        if min(height, width) < self.least:
            return f"It takes images of {self.least} pixels a side and more."
        if height % self.step or width % self.step:
            return f"It takes images whose sides are multiples of {self.step} pixels."
        if self.square and height != width:
            return "It takes square images alone."
        return None
