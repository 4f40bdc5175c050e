"""How much each layer can lose: one at a time is pruned, the answers are compared, and the weights are put back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.inputs import sees
from compressor.layers import matching_weights, weighted_modules
from compressor.measure.accuracy import answers
from compressor.measure.fidelity import agreement, divergence
from compressor.sparsity.cutting import Cut, ranked
from compressor.sparsity.importance import IMPORTANCES, Look
from contract.failures import MissingData, UnfitModel
from contract.methods.prune import PruneWeights
from contract.methods.sensitivity import AnalyzeSensitivity
from contract.report import LayerSensitivity, Sensitivity


def preflight(candidate: Candidate, params: AnalyzeSensitivity) -> None:
    """See whether the patterns match layers that fit."""
    _layers(candidate.module, params)


def apply(candidate: Candidate, params: AnalyzeSensitivity, context: Context) -> Candidate:
    """Measure KL(original || pruned) and the agreement of the answers, layer by layer and amount by amount."""
    if context.calibration is None:
        raise MissingData("analyze_sensitivity needs images. Name a dataset under data.calibration.")
    images = context.calibration.take(params.samples, seed=context.seed)
    module = candidate.module.to(context.device)
    layers = _layers(module, params)
    scores = _scores(module, layers, params, images=images, seed=context.seed)
    original = answers(module, images, device=context.device)
    found: list[LayerSensitivity] = []
    for number, (name, score) in enumerate(scores.items()):
        context.progress(number / len(scores), f"layer {number + 1} of {len(scores)}")
        earlier = candidate.masks.get(name)
        compared = [
            _compared(original, _pruned_answers(module, name, kept, images, context))
            for kept in _masks(ranked(score, earlier), name, params)
        ]
        kl, agreed = zip(*compared, strict=True)
        found.append(LayerSensitivity(name=layers[name], kl=kl, agreement=agreed))
    told = Sensitivity(amounts=params.amounts, layers=tuple(found))
    context.record("sensitivity", told.model_dump(mode="json"))
    return candidate


def _layers(module: nn.Module, params: AnalyzeSensitivity) -> dict[str, str]:
    """The layers to try, by parameter name."""
    parts, own = weighted_modules(module), dict(module.named_parameters())
    named = matching_weights(module, include=params.include, exclude=params.exclude)
    cut = Cut(_pruning(params, 0.5), {}, {})
    fitting = {
        name: layer
        for name, layer in named.items()
        if cut.pattern.fits(own[name]) and (params.importance != "wanda" or sees(parts[layer]))
    }
    if not fitting:
        raise UnfitModel(f"No layer fits importance {params.importance} with pattern {params.pattern}.")
    return fitting


def _scores(
    module: nn.Module, layers: Mapping[str, str], params: AnalyzeSensitivity, *, images: Images, seed: int
) -> dict[str, Tensor]:
    parts = weighted_modules(module)
    look = Look(
        module,
        {name: module.get_parameter(name) for name in layers},
        {name: parts[layer] for name, layer in layers.items()},
        torch.Generator().manual_seed(seed),
        images,
    )
    return IMPORTANCES[params.importance](look)


def _pruning(params: AnalyzeSensitivity, amount: float) -> PruneWeights:
    return PruneWeights(importance=params.importance, pattern=params.pattern, amount=amount)


def _masks(scores: Tensor, name: str, params: AnalyzeSensitivity) -> Iterator[Tensor]:
    """True where a weight of the layer stays, for each amount."""
    for amount in params.amounts:
        yield Cut(_pruning(params, amount), {}, {name: amount}).kept({name: scores})[name]


def _pruned_answers(module: nn.Module, name: str, kept: Tensor, images: Images, context: Context) -> Tensor:
    with _without(module.get_parameter(name), kept):
        return answers(module, images, device=context.device)


@contextmanager
def _without(weight: nn.Parameter, kept: Tensor) -> Iterator[None]:
    """Within this block only some weights are there."""
    whole = weight.data
    weight.data = whole * kept.to(whole.device)
    try:
        yield
    finally:
        weight.data = whole


def _compared(original: Tensor, pruned: Tensor) -> tuple[float, float]:
    return divergence(original, pruned), agreement(original, pruned)
