"""Which weights go together: each alone, N of every M, blocks, whole filters.

Every pattern is a view of the weight as (groups, members, size): `size` weights share one fate, and `members` of them
compete with each other where a pattern says how many of them stay.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """One way in which weights of shape (outputs, inputs, ...) are tied to each other."""

    #: As a step names it, such as `unstructured` or `2:4`.
    name: str
    #: Consecutive outputs and consecutive inputs that share a fate; 0 takes all inputs and every kernel position.
    block: tuple[int, int] = (1, 1)
    #: Of every so many consecutive inputs, how many stay.
    n_of_m: tuple[int, int] | None = None

    @classmethod
    def named(cls, name: str) -> "Pattern":
        """The pattern that a step names."""
        if ":" in name:
            n, m = (int(part) for part in name.split(":"))
            return cls(name, n_of_m=(n, m))
        return cls(name, block={"1x4": (1, 4), "4x1": (4, 1), "filters": (1, 0)}.get(name, (1, 1)))

    def fits(self, weight: Tensor) -> bool:
        """Whether the weight can be cut into equal pieces of this pattern."""
        outputs, inputs = weight.shape[:2]
        if self.n_of_m is not None:
            return inputs % self.n_of_m[1] == 0
        return outputs % self.block[0] == 0 and (not self.block[1] or inputs % self.block[1] == 0)

    def pooled(self, scores: Tensor) -> Tensor:
        """The mean score of the weights that share a fate; one for each piece, in the order of `spread`."""
        return self._pieces(scores).mean(1)

    def spread(self, pieces: Tensor, shape: torch.Size) -> Tensor:
        """What holds for each piece, told to each of its weights; of the weight's shape."""
        if self.block == (1, 0):
            return pieces.view(-1, 1).expand(-1, shape.numel() // shape[0]).reshape(shape)
        down, across = self.block
        outputs, inputs, *_kernel = shape
        cut = pieces.view(-1, outputs // down, 1, inputs // across, 1).expand(-1, -1, down, -1, across)
        return cut.reshape(-1, outputs, inputs).movedim(0, 2).reshape(shape).contiguous()

    def kept(self, scores: Tensor) -> Tensor:
        """For N:M: true for the N weights with the highest scores of every M; of the scores' shape."""
        assert self.n_of_m is not None
        n, m = self.n_of_m
        # Along the inputs: the M that compete stand next to each other in the last dimension.
        groups = scores.movedim(1, -1)
        ranked = groups.reshape(-1, m)
        kept = torch.zeros_like(ranked, dtype=torch.bool)
        kept.scatter_(1, ranked.argsort(dim=1, descending=True, stable=True)[:, :n], value=True)
        return kept.view(groups.shape).movedim(-1, 1).contiguous()

    def _pieces(self, tensor: Tensor) -> Tensor:
        """(pieces, size)."""
        if self.block == (1, 0):
            return tensor.flatten(1)
        down, across = self.block
        outputs, inputs, *_kernel = tensor.shape
        matrix = tensor.reshape(outputs, inputs, -1).movedim(2, 0)
        cut = matrix.reshape(-1, outputs // down, down, inputs // across, across)
        return cut.movedim(2, 3).reshape(-1, down * across)
