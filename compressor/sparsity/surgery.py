"""Optimal brain surgery on a network: layer after layer as they run, each on what reaches it by then.

What a layer aims at is what it gave before any was cut, so it also makes up for what those before it have lost.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compressor.inputs import Seeing, damped
from compressor.outcomes import Outcome, outcome_as_before, set_rows
from compressor.sparsity.amounts import cubic
from compressor.sparsity.cutting import Cut, choice, ranked
from compressor.sparsity.hessian import operated
from compressor.sparsity.importance import Look, magnitude


@dataclass(frozen=True)
class Operated:
    """One layer after the operation."""

    #: True where a weight stays.
    kept: Tensor
    #: The part of the layer's output that is lost, as a sum of squares.
    error: float
    #: What there was to choose from at last, as `choice` tells it.
    importance: list[float]


def operate(
    look: Look,
    cut: Cut,
    earlier: Mapping[str, Tensor],
    *,
    tell: Callable[[float, str], None],
    now: Callable[[float], float],
) -> dict[str, Operated]:
    """Cut every layer and let the rest of its weights make up for it, in place; by parameter name.

    `now` says how much of an amount is cut by now, where a schedule goes towards it. Layers that the network does not
    run are left as they are and out of the result.
    """
    one_by_one = _one_by_one(look, cut, earlier, now)
    original, found = copy.deepcopy(look.module), dict[str, Operated]()
    for number, name in enumerate(look.weights):
        tell(number / len(look.weights), f"layer {number + 1} of {len(look.weights)}")
        layer = look.layers[name]
        assert isinstance(layer, Seeing)
        seen = outcome_as_before(look.module, original, cut.modules[name], look.batches())
        if seen is not None:
            found[name] = _operated(name, layer, seen, one_by_one, earlier.get(name))
    return found


def _one_by_one(look: Look, cut: Cut, earlier: Mapping[str, Tensor], now: Callable[[float], float]) -> Cut:
    """The cut of now, with an amount for each layer.

    What the loss of one output is worth against that of another is not known here, so where all weights are ranked
    together it is by magnitude that each layer gets its amount.
    """
    if cut.params.scope == "layer":
        return replace(cut, amounts={name: now(amount) for name, amount in cut.amounts.items()})
    scores = {name: ranked(score, earlier.get(name)) for name, score in magnitude(look).items()}
    amounts = {name: 1 - float(mask.double().mean()) for name, mask in cut.kept(scores, now=now).items()}
    return Cut(cut.params.model_copy(update={"scope": "layer", "count": None}), cut.modules, amounts)


@torch.no_grad()
def _operated(name: str, layer: Seeing, seen: Outcome, cut: Cut, earlier: Tensor | None) -> Operated:
    shape = layer.weight.shape
    last = torch.empty(0)

    def choose(scores: Tensor, done: float) -> Tensor:
        nonlocal last
        last = scores.view(shape)
        kept = cut.kept({name: ranked(last, earlier)}, now=lambda amount: cubic(amount, done))[name]
        return (kept if earlier is None else kept & earlier.to(kept.device)).view(scores.shape)

    free = seen.unbiased
    h = damped(free.xx)
    aim = free.aimed(layer.weight.double().reshape(free.yx.shape), h)
    after, kept = operated(aim.float(), h.float(), choose)
    made = after.double()
    set_rows(layer, seen.with_best_bias(made))
    return Operated(kept.view(shape), free.error(made), choice(last, earlier))
