"""What a teacher says to images where more than its logits is compared."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressor.distillation.comparing import Comparison
from compressor.distillation.taps import Taps


class Saying(nn.Module):
    """A teacher's voice that says, behind its logits, what comparisons need of what its layers give out.

    All in one row for each image, so that it is asked for and kept as logits alone are; without the logits where only
    features are compared.
    """

    def __init__(self, voice: nn.Module, taps: Taps, comparisons: Sequence[Comparison], *, answers: bool) -> None:
        super().__init__()
        self.voice, self._taps, self._answers = voice, taps, answers
        # In a tuple, which hides them from torch: what they learn is no part of the teacher.
        self._comparisons = tuple(comparisons)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(N, classes and columns), in float32."""
        logits: Tensor = self.voice(*inputs)
        features = self._taps.take()
        told = [part for one in self._comparisons for part in one.told(features)]
        return torch.cat([logits.float(), *told] if self._answers else told, dim=1)
