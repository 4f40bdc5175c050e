"""Channels that only go together, and what they are worth (DepGraph, Fang et al. 2023, arXiv:2301.12900)."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from compressor.pruning.tracing import is_boundary
from contract.methods.prune import PruneChannels

#: What Torch-Pruning slices of a layer; recurrent layers and attention have more.
_SLICED = frozenset({"weight", "bias"})
#: With scope global, no layer loses more than this part of its channels.
_MOST_REMOVED = 0.9


@dataclass(frozen=True)
class ChannelGroup:
    """The channels of one layer, with all that depends on them."""

    root: nn.Module
    #: How many equal blocks the channels fall into that must stay equal, as in grouped convolutions; mostly 1.
    blocks: int
    #: One for each position within a block, averaged over the blocks; the mean is 1.
    scores: Tensor

    def kept(self, wanted: float, round_to: int) -> int:
        """The positions to keep of about `wanted`, so that the channels are a multiple of `round_to`."""
        step = round_to // math.gcd(round_to, self.blocks)
        nearest = math.floor(wanted / step + 0.5) * step
        return min(max(nearest, step), len(self.scores))

    def least(self, count: int) -> list[int]:
        """The channels at the `count` least important positions of each block."""
        positions = self.scores.argsort(stable=True)[:count]
        return sorted(int(p) + block * len(self.scores) for block in range(self.blocks) for p in positions)


def channel_groups(
    graph: tp.DependencyGraph, params: PruneChannels, *, fixed: Collection[nn.Module]
) -> Iterator[ChannelGroup]:
    """The groups that may shrink: none with an output of `fixed`, none on which an output depends."""
    importance = tp.importance.GroupMagnitudeImportance(p=1 if params.importance == "l1" else 2, normalizer=None)
    for group in graph.get_all_groups(ignored_layers=list(fixed)):
        blocks = _blocks(graph, group)
        if blocks is None or any(_keeps_width(graph, dep) for dep, _ in group):
            continue
        importances = importance(group)
        if importances is not None and len(importances) % blocks == 0:
            scores = importances.view(blocks, -1).mean(0).cpu()
            yield ChannelGroup(group[0].dep.target.module, blocks, scores / scores.mean().clamp_min(1e-12))


def channel_members(
    graph: tp.DependencyGraph, *, fixed: Collection[nn.Module]
) -> Iterator[tuple[tuple[nn.Parameter, int, tuple[int, ...]], ...]]:
    """For each group that may shrink: tensors, their dimension of channels, and where in it the group's channels are.

    Of the layers that give the channels out: weights, and scale and shift of normalizations.
    """
    for group in graph.get_all_groups(ignored_layers=list(fixed)):
        if _blocks(graph, group) == 1 and not any(_keeps_width(graph, dep) for dep, _ in group):
            count = len(group[0].idxs)
            givers = [(d, tuple(i)) for d, i in group if graph.is_out_channel_pruning_fn(d.handler) and len(i) == count]
            yield tuple((t, dim, places) for dep, places in givers for t, dim in _channelled(dep.target.module))


def _channelled(layer: nn.Module) -> Iterator[tuple[nn.Parameter, int]]:
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter.dim() > 1 or not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            yield parameter, int(transposed and name == "weight")


def _keeps_width(graph: tp.DependencyGraph, dep: tp.dependency.Dependency) -> bool:
    """Whether a group stays since it goes beyond what is known, or would narrow a layer that has tensors of its own."""
    layer = dep.target.module
    own = {name for name, _ in layer.named_parameters(recurse=False)} if isinstance(layer, nn.Module) else set()
    return is_boundary(dep.target) or (graph.is_out_channel_pruning_fn(dep.handler) and not own <= _SLICED)


def _blocks(graph: tp.DependencyGraph, group: tp.dependency.Group) -> int | None:
    """The blocks of a group; none where a grouped layer would not keep its blocks equal."""
    blocks = 1
    for dep, indices in group:
        layer, outputs = dep.target.module, graph.is_out_channel_pruning_fn(dep.handler)
        if dep.target.type is OPTYPE.DEPTHWISE_CONV and layer.in_channels != layer.out_channels:
            return None
        if dep.target.type not in (OPTYPE.CONV, OPTYPE.GN):
            continue
        pruner = graph.get_pruner_of_module(layer)
        own = pruner.get_out_channel_groups(layer) if outputs else pruner.get_in_channel_groups(layer)
        width = pruner.get_out_channels(layer) if outputs else pruner.get_in_channels(layer)
        if own > 1 and (len(indices) != width or width == own):
            return None
        blocks = math.lcm(blocks, own)
    return blocks


def removals(groups: list[ChannelGroup], params: PruneChannels) -> Iterator[tuple[nn.Module, list[int]]]:
    """The channels to remove, by the layer that gives them out."""
    for group, wanted in zip(groups, _wanted(groups, params), strict=True):
        count = len(group.scores) - group.kept(wanted, params.round_to)
        if count > 0:
            yield group.root, group.least(count)


def _wanted(groups: list[ChannelGroup], params: PruneChannels) -> list[float]:
    """How many positions each group would keep, but for rounding."""
    sizes = [len(group.scores) for group in groups]
    if params.scope == "layer" or not groups:
        return [(1 - params.ratio) * size for size in sizes]
    ranked = torch.cat([group.scores for group in groups]).sort().values
    threshold = ranked[min(int(params.ratio * len(ranked)), len(ranked) - 1)]
    return [
        max(float((group.scores >= threshold).sum()), (1 - _MOST_REMOVED) * size)
        for group, size in zip(groups, sizes, strict=True)
    ]


def remove(graph: tp.DependencyGraph, layer: nn.Module, channels: list[int]) -> None:
    """Remove the layer's output channels, and all that depends on them."""
    slicing = graph.get_pruner_of_module(layer).prune_out_channels
    group = graph.get_pruning_group(layer, slicing, channels)
    if graph.check_pruning_group(group):
        group.prune(record_history=False)
