"""The range of all values that an activation takes."""

import math
from dataclasses import dataclass

from torch import Tensor

#: The smallest and the largest value of an activation.
Range = tuple[float, float]


@dataclass
class Extremes:
    """The smallest and the largest value seen."""

    low: float = math.inf
    high: float = -math.inf
    #: Whether all that was seen is a number; what is not leaves the ends as they were.
    finite: bool = True

    def see(self, x: Tensor, ends: Range) -> None:
        """Take in a batch whose smallest and largest value are `ends`."""
        del x
        self.finite &= all(math.isfinite(end) for end in ends)
        self.low, self.high = min(self.low, ends[0]), max(self.high, ends[1])

    def range(self) -> Range:
        """Everything."""
        return self.low, self.high
