"""Optimal brain surgery on a network: layer after layer as they run, each on what reaches it by then."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compressor.inputs import Seeing, damped, input_products
from compressor.sparsity.amounts import cubic
from compressor.sparsity.cutting import Cut, choice, ranked
from compressor.sparsity.hessian import operated, output_error
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
    found: dict[str, Operated] = {}
    for number, (name, weight) in enumerate(look.weights.items()):
        layer = look.layers[name]
        tell(number / len(look.weights), f"layer {number + 1} of {len(look.weights)}")
        assert isinstance(layer, Seeing)
        products = input_products(look.module, layer, look.batches())
        if products is not None:
            found[name] = _operated(name, weight, products, one_by_one, earlier.get(name))
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
def _operated(name: str, weight: nn.Parameter, products: Tensor, cut: Cut, earlier: Tensor | None) -> Operated:
    groups, features, _ = products.shape
    grouped = (groups, -1, features)

    last = torch.empty(0)

    def choose(scores: Tensor, done: float) -> Tensor:
        nonlocal last
        last = scores.view(weight.shape)
        kept = cut.kept({name: ranked(last, earlier)}, now=lambda amount: cubic(amount, done))[name]
        return (kept if earlier is None else kept & earlier.to(kept.device)).view(grouped)

    h, before = damped(products), weight.detach().float().reshape(grouped)
    after, kept = operated(before, h, choose)
    weight.copy_(after.view(weight.shape))
    return Operated(kept.view(weight.shape), output_error(before, after, h), choice(last, earlier))
