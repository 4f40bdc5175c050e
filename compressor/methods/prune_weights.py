"""Unstructured pruning: the least important weights become zero (Han et al. 2015, arXiv:1506.02626)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matching, weight_names, weighted_modules
from contract.failures import UnfitModel
from contract.methods.prune import PruneWeights

#: Where neither amount nor count is given.
_DEFAULT_AMOUNT = 0.5


def preflight(candidate: Candidate, params: PruneWeights) -> None:
    """See whether the patterns match, and whether there are as many weights as shall become zero."""
    for pool in _pools(_weights(candidate.module, params), params):
        _count(pool, params)


def apply(candidate: Candidate, params: PruneWeights, context: Context) -> Candidate:
    """Zero the asked-for part of the matching weights, those already masked among it, and mask them."""
    weights = _weights(candidate.module, params)
    generator = torch.Generator().manual_seed(context.seed)
    masks: dict[str, Tensor] = {}
    for pool in _pools(weights, params):
        scores = {name: _scores(weight, candidate.masks.get(name), params, generator) for name, weight in pool.items()}
        masks |= _kept(scores, _count(pool, params))
    pruned = replace(candidate, masks={**candidate.masks, **_merged(masks, candidate.masks)})
    pruned.apply_masks()
    _record(pruned, masks, context)
    return pruned


def _weights(module: nn.Module, params: PruneWeights) -> dict[str, nn.Parameter]:
    """The weights to prune, by parameter name; one that two layers share is there once."""
    layers = weighted_modules(module)
    chosen = matching(list(layers), include=params.include, exclude=params.exclude)
    names = (f"{layer}.{name}".removeprefix(".") for layer in chosen for name in weight_names(layers[layer]))
    own = dict(module.named_parameters())
    return {name: own[name] for name in names if name in own}


def _pools(weights: dict[str, nn.Parameter], params: PruneWeights) -> list[dict[str, nn.Parameter]]:
    """The weights that are ranked together."""
    return [weights] if params.scope == "global" else [{name: weight} for name, weight in weights.items()]


def _count(pool: Mapping[str, Tensor], params: PruneWeights) -> int:
    """How many weights of the pool shall be zero; raises `UnfitModel` where there are not so many."""
    total = sum(weight.numel() for weight in pool.values())
    if params.count is None:
        return round((_DEFAULT_AMOUNT if params.amount is None else params.amount) * total)
    if params.count > total:
        where = "All the matching layers together have" if params.scope == "global" else f"{next(iter(pool))} has"
        raise UnfitModel(f"{where} {total} weights, so {params.count} cannot become zero.")
    return params.count


def _scores(weight: Tensor, mask: Tensor | None, params: PruneWeights, generator: torch.Generator) -> Tensor:
    """The importance of each weight; below all others where it is masked, so that it counts as part of the amount."""
    random = params.importance == "random"
    score = torch.rand(weight.shape, generator=generator) if random else weight.detach().abs().cpu()
    # Above zero for every weight that is still there, be it zero itself.
    score = score + torch.finfo(score.dtype).tiny
    return score if mask is None else score * mask.cpu()


def _kept(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Which weights torch keeps when `count` of the pool go: true where one stays."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = prune.L1Unstructured(count).compute_mask(flat, torch.ones_like(flat)).bool()  # type: ignore[no-untyped-call]
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]).clone() for name, part in zip(scores, parts, strict=True)}


def _merged(masks: Mapping[str, Tensor], earlier: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an earlier step has masked stays masked, even where it was more than what is asked for now."""
    return {name: mask & earlier[name].cpu() if name in earlier else mask for name, mask in masks.items()}


def _record(pruned: Candidate, names: Iterable[str], context: Context) -> None:
    kept = [pruned.masks[name] for name in names]
    context.record("layers", [name.rpartition(".")[0] for name in names])
    context.record("zeros", 1 - sum(int(mask.sum()) for mask in kept) / sum(mask.numel() for mask in kept))
