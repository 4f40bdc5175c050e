"""An objective that is a weighted sum of terms, and what the terms learn beside the network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressor.data.images import Batch


class Weighted(nn.Module):
    """The sum of what `measure` finds, by the terms' names, each times its weight.

    The parameters of `measure`, such as adapters between layers, are trained with the network and kept in checkpoints;
    they are no part of the network, and end with the training.
    """

    def __init__(self, measure: nn.Module, weights: Mapping[str, float]) -> None:
        super().__init__()
        #: From logits (N, classes) and their batch to a scalar for each term.
        self.measure = measure
        self._weights = dict(weights)
        self._found: list[Tensor] = []

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """The scalar to be made small, for logits of shape (N, classes)."""
        found: Mapping[str, Tensor] = self.measure(logits, batch)
        terms = torch.stack([found[name] for name in self._weights])
        self._found.append(terms.detach())
        return (terms * terms.new_tensor(list(self._weights.values()))).sum()

    def means(self) -> dict[str, float]:
        """The mean of each term, unweighted, over the batches since it was asked last."""
        means = torch.stack(self._found).double().mean(0).tolist()
        self._found = []
        return dict(zip(self._weights, means, strict=True))
