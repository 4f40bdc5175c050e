"""Attention opened, so that its projections can be factorized as any other linear layers."""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from compressor.attending import attending_to_itself
from compressor.attention import ATTENTION, SelfAttention
from compressor.candidate import Candidate
from compressor.models.edits import Open, apply_edits


def open_attentions(candidate: Candidate, names: Collection[str]) -> dict[str, nn.Module]:
    """Open the attentions of which these layers are a part; what stood in each place before, by name.

    Those stay closed that do more than attend to themselves, or whose projection is masked or has its codes.
    """
    network = candidate.module
    wanted = {name: part for name, part in _attentions(network) if any(_is_of(layer, name) for layer in names)}
    if not wanted:
        return {}
    example = torch.zeros(1, *candidate.input_shape, device=next(network.parameters()).device)
    alone = attending_to_itself(network, example)
    settled = candidate.masks.keys() | candidate.plan.weights.keys()
    opened = {
        name: part
        for name, part in wanted.items()
        if (isinstance(part, SelfAttention) or part in alone) and f"{name}.in_proj_weight" not in settled
    }
    apply_edits(network, [Open(module=name) for name in opened])
    return opened


def close_attentions(network: nn.Module, opened: Mapping[str, nn.Module], chosen: Iterable[str]) -> tuple[Open, ...]:
    """Put those back of which no layer has been chosen; the edits that have opened the others."""
    used = {name for name in opened if any(_is_of(layer, name) for layer in chosen)}
    for name, was in opened.items():
        if name not in used:
            network.set_submodule(name, was)
    return tuple(Open(module=name) for name in opened if name in used)


def _attentions(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in network.named_modules() if name and isinstance(part, ATTENTION)]


def _is_of(layer: str, attention: str) -> bool:
    return f"{layer}.".startswith(f"{attention}.")
