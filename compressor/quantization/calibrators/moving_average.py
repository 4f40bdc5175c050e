"""The ends of an activation's range as a moving average over batches.

Jacob et al. 2018 (arXiv:1712.05877), section 3.1: single batches with an outlier move the range a little only.
"""

from dataclasses import dataclass

from torch import Tensor

from compressor.quantization.calibrators.extremes import Range

#: The part of a new batch; calibration sees tens of batches, not the thousands of a training.
_NEW = 0.1


@dataclass
class MovingAverage:
    """Exponentially weighted ends of the batches' ranges, from the first batch's on."""

    ends: Range | None = None

    def see(self, x: Tensor, ends: Range) -> None:
        """Take in a batch whose smallest and largest value are `ends`."""
        del x
        low, high = self.ends or ends
        self.ends = (low + _NEW * (ends[0] - low), high + _NEW * (ends[1] - high))

    def range(self) -> Range:
        """The averaged ends."""
        return self.ends or (0.0, 0.0)
