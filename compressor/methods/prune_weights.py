"""Unstructured pruning: the least important weights become zero (Han et al. 2015, arXiv:1506.02626)."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matching, weight_names, weighted_modules
from contract.failures import UnfitModel
from contract.methods.prune import PruneWeights

_Weight = tuple[nn.Module, str]


def preflight(candidate: Candidate, params: PruneWeights) -> None:
    """See whether the patterns match, and whether there are as many weights as shall be zeroed."""
    _checked_amount(_weights(candidate.module, params), params)


def apply(candidate: Candidate, params: PruneWeights, context: Context) -> Candidate:
    """Zero the asked-for part of the matching weights, those already masked among it, and mask them."""
    weights = _weights(candidate.module, params)
    amount = _checked_amount(weights, params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        _choose(list(weights.values()), amount, params, earlier=[candidate.masks.get(name) for name in weights])
    masks = {name: _settled(*weight, earlier=candidate.masks.get(name)) for name, weight in weights.items()}
    context.record("layers", [*sorted({name.rpartition(".")[0] for name in weights})])
    return replace(candidate, masks={**candidate.masks, **masks})


def _weights(module: nn.Module, params: PruneWeights) -> dict[str, _Weight]:
    """The weights to prune, by parameter name."""
    layers = weighted_modules(module)
    chosen = matching(list(layers), include=params.include, exclude=params.exclude)
    return {
        f"{layer}.{name}" if layer else name: (layers[layer], name)
        for layer in chosen
        for name in weight_names(layers[layer])
    }


def _checked_amount(weights: dict[str, _Weight], params: PruneWeights) -> float | int:
    """A fraction, or a number of weights; raises `UnfitModel` where there are not so many."""
    if params.count is None:
        return 0.5 if params.amount is None else params.amount
    sizes = {name: getattr(*weight).numel() for name, weight in weights.items()}
    smallest = min(sizes, key=lambda name: sizes[name])
    available = sum(sizes.values()) if params.scope == "global" else sizes[smallest]
    if params.count > available:
        where = "the matching layers" if params.scope == "global" else smallest
        raise UnfitModel(f"count is {params.count}, and {where} has {available} weights.")
    return params.count


def _choose(weights: list[_Weight], amount: float | int, params: PruneWeights, *, earlier: list[Tensor | None]) -> None:
    """Let torch choose; what an earlier step has masked goes first, so that it counts as part of the amount."""
    scores = {(m, n): _score(getattr(m, n), mask, params) for (m, n), mask in zip(weights, earlier, strict=True)}
    if params.scope == "global":
        prune.global_unstructured(
            weights, pruning_method=prune.L1Unstructured, importance_scores=scores, amount=_exact(amount, scores)
        )
        return
    for module, name in weights:
        score = scores[module, name]
        exact = _exact(amount, {(module, name): score})
        prune.l1_unstructured(module, name, amount=exact, importance_scores=score)  # type: ignore[no-untyped-call]


def _exact(amount: float | int, scores: dict[_Weight, Tensor]) -> int:
    """The number of weights; torch takes 1 for one weight and 1.0 for all."""
    total = sum(score.numel() for score in scores.values())
    return amount if isinstance(amount, int) else round(amount * total)


def _score(weight: Tensor, mask: Tensor | None, params: PruneWeights) -> Tensor:
    """The importance of each weight, above zero; zero where it is masked already."""
    score = weight.detach().abs() + torch.finfo(weight.dtype).tiny
    if params.importance == "random":
        score = torch.rand(weight.shape).to(weight.device) + torch.finfo(weight.dtype).tiny
    return score if mask is None else score * mask.to(weight.device)


def _settled(module: nn.Module, name: str, *, earlier: Tensor | None) -> Tensor:
    """Make torch's mask permanent, and return it together with what was masked before."""
    mask: Tensor = getattr(module, f"{name}_mask").bool()
    prune.remove(module, name)  # type: ignore[no-untyped-call]
    return mask if earlier is None else mask & earlier.to(mask.device)
