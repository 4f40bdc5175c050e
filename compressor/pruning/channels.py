"""Channels removed together with all that depends on them (DepGraph, Fang et al. 2023, arXiv:2301.12900).

Torch-Pruning finds the dependencies and slices; what may be removed, and what happens where it fails, is ours.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressor.pruning.islands import inputs_of, is_untraceable, islands
from compressor.pruning.time_limit import TimeLimitExceeded, time_limit
from contract.failures import PruningFailed
from contract.methods.prune import PruneChannels

#: Tracing a network of 700 layers takes about a minute.
SECONDS = 240.0


@dataclass(frozen=True)
class Narrowed:
    """A network with fewer channels."""

    module: nn.Module
    #: Why only parts of it could be narrowed, where that is so.
    only_parts: str | None = None


def narrow(
    module: nn.Module, params: PruneChannels, *, input_shape: tuple[int, int, int], kept: Sequence[nn.Module]
) -> Narrowed:
    """The network without its least important channels; the outputs of the modules in `kept` stay as they are.

    Raises `PruningFailed` where neither the whole nor any part of it can be narrowed.
    """
    example = torch.zeros(1, *input_shape, device=next(module.parameters()).device)
    if is_untraceable(module):
        return Narrowed(_by_islands(module, params, example, kept), "attention or shuffled channels keep their widths")
    names = {part: name for name, part in module.named_modules()}
    spare = copy.deepcopy(module)
    try:
        _prune(module, params, example, ignored=kept)
        _check_answers(module, example)
    except _CAUSES as error:
        again = dict(spare.named_modules())
        kept = [again[names[part]] for part in kept]
        return Narrowed(_by_islands(spare, params, example, kept), f"the whole could not be traced ({_told(error)})")
    return Narrowed(module)


#: What Torch-Pruning and a wrongly sliced network raise.
_CAUSES = (
    RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError, ZeroDivisionError,
    NotImplementedError, RecursionError, TimeLimitExceeded,
)  # fmt: skip


def _told(error: BaseException) -> str:
    return "it took too long" if isinstance(error, TimeLimitExceeded) else f"{type(error).__name__}: {error}"[:200]


def _by_islands(module: nn.Module, params: PruneChannels, example: Tensor, kept: Sequence[nn.Module]) -> nn.Module:
    parts = dict(islands(module))
    inputs = inputs_of(module, parts, example)
    reached = {name: part for name, part in parts.items() if name in inputs}
    if not reached:
        raise PruningFailed("Its channels depend on each other in ways that cannot be traced, as a whole and in part.")
    for name, part in reached.items():
        last = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][-1]
        try:
            _prune(part, params, inputs[name], ignored=[*kept, last])
        except _CAUSES as error:
            raise PruningFailed(f"The channels of {name} cannot be traced ({_told(error)}).", layer=name) from error
    try:
        _check_answers(module, example)
    except _CAUSES as error:
        raise PruningFailed(f"The network does not run without the channels ({_told(error)}).") from error
    return module


def _prune(module: nn.Module, params: PruneChannels, example: Tensor, *, ignored: Sequence[nn.Module]) -> None:
    with torch.enable_grad(), warnings.catch_warnings(), time_limit(SECONDS):
        # It warns of parameters outside of modules, for which its choice of the dimension is right.
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            module,
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=1 if params.importance == "l1" else 2),
            global_pruning=params.scope == "global",
            pruning_ratio=params.ratio,
            max_pruning_ratio=1.0 if params.scope == "layer" else min(0.98, (1 + params.ratio) / 2),
            ignored_layers=list(ignored),
            round_to=params.round_to,
            # Its defaults for these are shared by all pruners of the process.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
        )
        pruner.step()


def _check_answers(module: nn.Module, example: Tensor) -> None:
    with torch.no_grad():
        module(example)
