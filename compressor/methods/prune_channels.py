"""Structured pruning: the least important channels are removed (Li et al. 2017, arXiv:1608.08710)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matches, matching, weighted_modules
from compressor.models.edits import edits_between
from compressor.pruning.channels import Narrowed, Pruning, narrow
from contract.failures import UnfitModel
from contract.methods.prune import PruneChannels
from contract.value import Json


def preflight(candidate: Candidate, params: PruneChannels) -> None:
    """See whether the patterns match."""
    matching(list(weighted_modules(candidate.module)), include=params.include, exclude=params.exclude)


def apply(candidate: Candidate, params: PruneChannels, context: Context) -> Candidate:
    """Remove channels everywhere but in the classifier and where the patterns forbid it.

    Raises `PruningFailed` where the dependencies between channels cannot be followed, and `UnfitModel` where they can
    but leave nothing to remove.
    """
    preflight(candidate, params)
    context.progress(0.0, "finding dependencies")
    narrowed = narrow(candidate.module, _pruning(candidate, params))
    channels = _channels(candidate.module, narrowed.module)
    if not any(before > after for before, after in channels.values()):
        raise UnfitModel(_nothing(params, narrowed))
    _restore_modes(candidate.module, narrowed.module)
    _tell(channels, narrowed, params, context)
    return replace(
        candidate,
        module=narrowed.module,
        edits=(*candidate.edits, *edits_between(candidate.module, narrowed.module)),
        masks=narrowed.masks,
    )


def _pruning(candidate: Candidate, params: PruneChannels) -> Pruning:
    names = weighted_modules(candidate.module)
    return Pruning(
        params=params,
        example=torch.zeros(1, *candidate.input_shape, device=next(candidate.module.parameters()).device),
        fixed=frozenset(n for n in names if not matches(n, include=params.include, exclude=params.exclude)),
        masks=candidate.masks,
    )


def _restore_modes(before: nn.Module, after: nn.Module) -> None:
    """Let every part train, or not, as it did."""
    parts = dict(before.named_modules())
    for name, part in after.named_modules():
        part.training = parts[name].training
    for name, parameter in after.named_parameters():
        parameter.requires_grad_(before.get_parameter(name).requires_grad)


def _channels(before: nn.Module, after: nn.Module) -> dict[str, tuple[int, int]]:
    """Outputs of each layer, before and after."""
    layers = weighted_modules(after)
    pairs = {name: (_outputs(layer), _outputs(layers[name])) for name, layer in weighted_modules(before).items()}
    return {name: (old, new) for name, (old, new) in pairs.items() if old is not None and new is not None}


def _outputs(layer: nn.Module) -> int | None:
    width: int | None = getattr(layer, "out_channels", getattr(layer, "out_features", None))
    return width


def _nothing(params: PruneChannels, narrowed: Narrowed) -> str:
    cause = f"; {_listed(narrowed.opaque)} rearrange their channels" if narrowed.opaque else ""
    return (
        f"No channel can be removed with ratio {params.ratio:g} and round_to {params.round_to} from the layers that "
        f"the patterns mean: they are too narrow, or other layers or the output need their widths{cause}."
    )


def _tell(channels: Mapping[str, tuple[int, int]], narrowed: Narrowed, params: PruneChannels, context: Context) -> None:
    narrower: dict[str, Json] = {name: [old, new] for name, (old, new) in channels.items() if old > new}
    wanted = [name for name in channels if matches(name, include=params.include, exclude=params.exclude)]
    left = [name for name in wanted if name not in narrower]
    context.record("channels", narrower)
    context.record("layers_left_alone", list(left))
    if narrowed.opaque:
        context.notice(
            "layers_left_alone",
            f"{len(left)} of {len(wanted)} layers keep their widths, because {_listed(narrowed.opaque)} rearrange "
            "channels; what lies within a block was narrowed.",
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(name or "the network itself" for name in names[:3]) + (" and others" if len(names) > 3 else "")
