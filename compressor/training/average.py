"""A moving average of the weights (Polyak and Juditsky 1992), which generalizes better than the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of all floating-point tensors of a module's state: weights and statistics."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self._decay = decay
        self._live = {n: t for n, t in module.state_dict(keep_vars=True).items() if t.is_floating_point()}
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        #: How often it has been updated.
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now; the first updates count for more, so that the start is forgotten."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.tensors.values()), [t.detach() for t in self._live.values()], 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew with the weights as they are now."""
        for name, live in self._live.items():
            self.tensors[name].copy_(live)
        self.updates = 0

    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Go on from tensors and a count that were kept."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
        self.updates = updates

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this block the module computes with the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def take_over(self) -> None:
        """Leave the average in the module."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, live in self._live.items():
            kept = live.detach().clone()
            live.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)
