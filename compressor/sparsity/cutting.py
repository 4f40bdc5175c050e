"""From scores to masks: which weights stay."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compressor.measure.quartiles import quartiles
from compressor.sparsity.amounts import erk, own_amounts, whole
from compressor.sparsity.patterns import Pattern
from contract.failures import UnfitModel
from contract.methods.prune import PruneWeights

#: The score of a weight that is zero, but has not been cut.
_THERE = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Cut:
    """What shall become zero of some weights."""

    params: PruneWeights
    #: The weights' modules, by parameter name.
    modules: Mapping[str, str]
    #: By parameter name; of the whole where all are ranked together.
    amounts: Mapping[str, float]

    @classmethod
    def of(cls, params: PruneWeights, weights: Mapping[str, Tensor], modules: Mapping[str, str]) -> "Cut":
        """The cut that a step asks for, of these weights."""
        amount = params.amount or 0.0
        default = erk(weights, amount) if params.distribution == "erk" else dict.fromkeys(weights, amount)
        return cls(params, modules, own_amounts(modules, params.amount_by_layer, default))

    @property
    def pattern(self) -> Pattern:
        """Which weights go together."""
        return Pattern.named(self.params.pattern)

    def kept(self, scores: Mapping[str, Tensor], *, now: Callable[[float], float] = whole) -> dict[str, Tensor]:
        """True where a weight stays, by parameter name; the scores are those of `ranked`.

        `now` says how much of an amount is cut by now, where a schedule goes towards it.
        """
        if self.params.threshold is not None:
            return {name: score > self.params.threshold + _THERE for name, score in scores.items()}
        if self.params.n_of_m is not None:
            return {name: self.pattern.kept(score) for name, score in scores.items()}
        if self.params.compare == "row":
            return {name: _by_row(score, now(self.amounts[name])) for name, score in scores.items()}
        pieces = {name: self.pattern.pooled(score) for name, score in scores.items()}
        kept = self._ranked(scores, pieces, now)
        return {name: self.pattern.spread(kept[name], score.shape) for name, score in scores.items()}

    def _ranked(
        self, scores: Mapping[str, Tensor], pieces: Mapping[str, Tensor], now: Callable[[float], float]
    ) -> dict[str, Tensor]:
        if self.params.scope == "global":
            flat = torch.cat(list(pieces.values()))
            sizes = {name: scores[name].numel() // len(piece) for name, piece in pieces.items()}
            amount = now(next(iter(self.amounts.values()), 0.0))
            if len(set(sizes.values())) == 1:
                kept = _highest(flat, self._count(len(flat), next(iter(sizes.values())), amount))
            else:
                weights = torch.cat([torch.full(piece.shape, sizes[name]) for name, piece in pieces.items()])
                wanted = self._count(int(weights.sum()), 1, amount)
                kept = _highest_by_size(flat, weights.to(flat.device), wanted)
            parts = torch.split(kept, [len(piece) for piece in pieces.values()])
            return dict(zip(pieces, parts, strict=True))
        return {
            name: _highest(piece, self._count(len(piece), scores[name].numel() / len(piece), now(self.amounts[name])))
            for name, piece in pieces.items()
        }

    def _count(self, pieces: int, size: float, amount: float) -> int:
        """How many of the pieces go, of `size` weights each."""
        return round(amount * pieces if self.params.count is None else min(pieces, self.params.count / size))

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Raise `UnfitModel` where more weights shall become zero than there are."""
        count = self.params.count
        if count is None:
            return
        sizes = {name: weight.numel() for name, weight in weights.items()}
        if self.params.scope == "global" and count > sum(sizes.values()):
            raise UnfitModel(
                f"All the matching layers together have {sum(sizes.values())} weights, so {count} cannot become zero."
            )
        small = next((name for name, size in sizes.items() if count > size), None)
        if self.params.scope == "layer" and small is not None:
            layer = self.modules[small]
            raise UnfitModel(f"{small} has {sizes[small]} weights, so {count} cannot become zero.", layer=layer)


def _highest(scores: Tensor, cut: int) -> Tensor:
    """True for all but the `cut` lowest of some scores; of equal ones the first stay."""
    if not cut:
        return torch.ones_like(scores, dtype=torch.bool)
    bound = _lowest(scores, cut)
    kept: Tensor = scores > bound
    equal = (scores == bound).nonzero().flatten()
    kept[equal[: len(scores) - cut - int(kept.sum())]] = True
    return kept


def _highest_by_size(scores: Tensor, sizes: Tensor, cut: int) -> Tensor:
    """True for all but the lowest of some scores, whose sizes are together as nearly `cut` as they can."""
    order = len(scores) - 1 - scores.flip(0).argsort(stable=True)
    ranked = sizes[order]
    # One goes where at least half of it lies within the cut.
    gone = ranked.cumsum(0) - ranked / 2 <= cut
    return torch.ones_like(scores, dtype=torch.bool).scatter_(0, order, ~gone)


def _lowest(scores: Tensor, number: int) -> float:
    """The score of this number, counted from the lowest and from 1."""
    if scores.device.type == "cpu":
        # Many times as fast as torch's: schedules and surgery make dozens of selections among millions of scores.
        return float(np.partition(scores.numpy(), number - 1)[number - 1])
    return float(scores.kthvalue(number).values)


def _by_row(scores: Tensor, amount: float) -> Tensor:
    rows = scores.flatten(1)
    kept = torch.ones_like(rows, dtype=torch.bool)
    lowest = rows.argsort(dim=1, stable=True)[:, : round(amount * rows.shape[1])]
    return kept.scatter_(1, lowest, value=False).view(scores.shape)


def ranked(scores: Tensor, earlier: Tensor | None) -> Tensor:
    """Scores above zero where a weight is still there, be it zero itself, and zero where an earlier step has cut it.

    So what is cut already is cut again first, and counts as part of the amount.
    """
    scores = scores.float() + _THERE
    return scores if earlier is None else scores * earlier.to(scores.device)


def choice(scores: Tensor, earlier: Tensor | None) -> list[float]:
    """The quartiles of what there is to choose from, which is what no earlier step has cut; none where that is all."""
    left = scores if earlier is None else scores[earlier.to(scores.device)]
    return quartiles(left) if len(left) else []
