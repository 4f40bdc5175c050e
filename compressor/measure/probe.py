"""The inputs on which two states of a network are compared."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.data.images import Images
from compressor.measure.accuracy import BATCH

#: Images that serve for comparison where none were given for evaluation.
_STAND_INS = 256
#: Random inputs, where there are no images at all.
_RANDOM_INPUTS = 32


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Inputs, with labels where accuracy can be measured on them."""

    images: Images | None
    #: Of the evaluation data; none where other inputs stand in for it.
    labels: Tensor | None = None
    #: Used where there are no images; shape (N, C, H, W).
    noise: Tensor | None = None

    def batches(self) -> Iterator[Tensor]:
        """The inputs in order, in batches of shape (N, C, H, W)."""
        if self.images is not None:
            yield from (batch.x for batch in self.images.batches(BATCH))
        elif self.noise is not None:
            yield self.noise

    def batch(self, size: int) -> Tensor:
        """One batch of exactly so many inputs, repeated where there are too few."""
        first = next(self.batches())
        return first[torch.arange(size) % len(first)].contiguous()

    def __len__(self) -> int:
        return len(self.images) if self.images is not None else _RANDOM_INPUTS


def probe(evaluation: Images | None, stand_in: Images | None, *, input_shape: tuple[int, int, int], seed: int) -> Probe:
    """The evaluation images, or else some others, or else noise of the spread that normalized images have."""
    if evaluation is not None:
        return Probe(images=evaluation, labels=evaluation.labels if evaluation.labelled else None)
    if stand_in is not None:
        return Probe(images=stand_in.take(_STAND_INS, seed=seed))
    generator = torch.Generator().manual_seed(seed % 2**63)
    return Probe(images=None, noise=torch.randn(_RANDOM_INPUTS, *input_shape, generator=generator))
