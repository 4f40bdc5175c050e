"""Structured pruning: the least important channels are removed (Li et al. 2017, arXiv:1608.08710)."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matches, matching, weighted_modules
from compressor.measure.counting import evaluating
from compressor.models.edits import edits_between
from compressor.pruning.channels import narrow
from contract.failures import PruningFailed
from contract.methods.prune import PruneChannels
from contract.value import Json


def preflight(candidate: Candidate, params: PruneChannels) -> None:
    """See whether the patterns match."""
    matching(list(weighted_modules(candidate.module)), include=params.include, exclude=params.exclude)


def apply(candidate: Candidate, params: PruneChannels, context: Context) -> Candidate:
    """Remove channels everywhere but in the classifier and where the patterns forbid it."""
    preflight(candidate, params)
    before = copy.deepcopy(candidate.module).to("meta")
    modes = {name: part.training for name, part in candidate.module.named_modules()}
    candidate.module.eval().requires_grad_(True)
    kept = _kept(candidate, params)
    narrowed = narrow(candidate.module, params, input_shape=candidate.input_shape, kept=kept)
    for name, part in narrowed.module.named_modules():
        part.training = modes[name]
    _check(before, narrowed.module)
    context.record("channels", _channels(before, narrowed.module))
    if narrowed.only_parts:
        context.notice("layers_left_alone", f"Only inner widths were narrowed: {narrowed.only_parts}.")
    return replace(
        candidate,
        module=narrowed.module,
        edits=(*candidate.edits, *edits_between(before, narrowed.module)),
        masks={name: _sliced(narrowed.module, name, mask) for name, mask in candidate.masks.items()},
    )


def _kept(candidate: Candidate, params: PruneChannels) -> list[nn.Module]:
    """Layers whose outputs stay: the classifier, and what the patterns leave out."""
    layers = weighted_modules(candidate.module)
    left = [layers[n] for n in layers if not matches(n, include=params.include, exclude=params.exclude)]
    return [*left, _classifier(candidate)]


def _classifier(candidate: Candidate) -> nn.Module:
    """The layer that computes the logits: the last with weights that runs."""
    ran: list[nn.Module] = []
    layers = weighted_modules(candidate.module).values()
    hooks = [layer.register_forward_hook(lambda part, *_: ran.append(part)) for layer in layers]
    device = next(candidate.module.parameters()).device
    with evaluating(candidate.module):
        candidate.module(torch.zeros(1, *candidate.input_shape, device=device))
    for hook in hooks:
        hook.remove()
    return ran[-1]


def _check(before: nn.Module, after: nn.Module) -> None:
    if sum(p.numel() for p in before.parameters()) == sum(p.numel() for p in after.parameters()):
        raise PruningFailed("No channel can be removed at this ratio and round_to.")


def _channels(before: nn.Module, after: nn.Module) -> dict[str, Json]:
    """Outputs of each narrowed layer, before and after."""
    old = weighted_modules(before)
    pairs = {n: (_outputs(old[n]), _outputs(layer)) for n, layer in weighted_modules(after).items() if n in old}
    return {name: [*pair] for name, pair in pairs.items() if pair[0] != pair[1]}


def _outputs(layer: nn.Module) -> int:
    return int(getattr(layer, "out_channels", getattr(layer, "out_features", 0)))


def _sliced(module: nn.Module, name: str, mask: Tensor) -> Tensor:
    """The mask of what is left: a pruned weight is exactly zero, and stays so where its channel stays."""
    weight = module.get_parameter(name)
    return mask if weight.shape == mask.shape else weight.detach() != 0
