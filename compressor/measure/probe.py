"""The inputs on which two states of a network are compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.data.origin import Sight
from compressor.measure.accuracy import BATCH, answers_to

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
    #: The classes that are compared, where they are but some of those that a network may still tell apart.
    classes: tuple[int, ...] | None = None

    def seen_in(self, sights: Sequence[Sight]) -> Self:
        """The same, where there are images, for networks that take them in these sights too."""
        return self if self.images is None else replace(self, images=self.images.seen_in(sights))

    def batches(self) -> Iterator[Tensor]:
        """The inputs in order, in batches of shape (N, C, H, W)."""
        return (x for x, *_ in self._given())

    def _given(self) -> Iterator[tuple[Tensor, ...]]:
        """The inputs in order, with what other sights show of them."""
        if self.images is not None:
            yield from (batch.inputs() for batch in self.images.batches(BATCH))
        elif self.noise is not None:
            yield (self.noise,)

    def answers(self, module: nn.Module, *, device: torch.device | None = None) -> Tensor:
        """A network's logits for the inputs, of the classes that are compared: (inputs, classes), on the CPU."""
        return self.compared(answers_to(self._given(), module, device=device))

    def compared(self, logits: Tensor) -> Tensor:
        """Of logits (N, classes), the columns that are compared; all where the network has no others."""
        if self.classes is None or logits.shape[1] == len(self.classes):
            return logits
        return logits[:, list(self.classes)]

    def batch(self, size: int) -> Tensor:
        """One batch of exactly so many inputs, repeated where there are too few."""
        first = next(self.batches())
        return first[torch.arange(size) % len(first)].contiguous()

    def __len__(self) -> int:
        return len(self.images) if self.images is not None else _RANDOM_INPUTS


def probe(
    evaluation: Images | None,
    stand_in: Images | None,
    *,
    input_shape: tuple[int, int, int],
    seed: int,
    classes: tuple[int, ...] | None = None,
) -> Probe:
    """The evaluation images, or else some others, or else noise of the spread that normalized images have."""
    if evaluation is not None:
        return Probe(images=evaluation, labels=evaluation.labels if evaluation.labelled else None, classes=classes)
    if stand_in is not None:
        return Probe(images=stand_in.take(_STAND_INS, seed=seed), classes=classes)
    generator = torch.Generator().manual_seed(seed % 2**63)
    noise = torch.randn(_RANDOM_INPUTS, *input_shape, generator=generator)
    return Probe(images=None, noise=noise, classes=classes)
