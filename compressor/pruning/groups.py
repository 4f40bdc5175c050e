"""Channels that only go together, and what they are worth (DepGraph, Fang et al. 2023, arXiv:2301.12900)."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from compressor.layers import first_meant
from compressor.pruning.costs import Use
from compressor.pruning.heads import Heads, all_heads
from compressor.pruning.importance import Importance
from compressor.pruning.tracing import is_boundary
from contract.failures import UnfitModel
from contract.methods.prune import PruneChannels

#: What Torch-Pruning slices of a layer; recurrent layers and attention have more.
_SLICED = frozenset({"weight", "bias"})
#: Where layers are ranked together, none loses more than this part of its channels.
_MOST_REMOVED = 0.9


#: By layer, the numbers of the outputs that were taken.
Gone = Mapping[nn.Module, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """The channels of one layer, or the features of one attention's heads, with all that depends on them."""

    root: nn.Module
    #: How many equal blocks the channels fall into that must stay equal, as in grouped convolutions; mostly 1.
    blocks: int
    #: One for each position within a block, averaged over the blocks.
    importances: Tensor
    #: What a position is to each layer.
    uses: tuple[Use, ...]
    #: Equal for groups of the same structure.
    structure: tuple[str, ...]
    #: Takes channels by their numbers, and tells which outputs of which layers went.
    remove: Callable[[list[int]], Gone]
    #: What a position costs; its importances' mean, where groups are compared by how each stands in its own.
    cost: float | None = None
    #: Positions before the first of several rounds; none where this is the first.
    began: int | None = None

    @property
    def scores(self) -> Tensor:
        """Importances over what a position costs, by which groups are compared."""
        cost = float(self.importances.mean()) if self.cost is None else self.cost
        return self.importances / max(cost, 1e-12)

    @property
    def size(self) -> int:
        """Positions."""
        return len(self.importances)

    @property
    def whole(self) -> int:
        """Positions before any round, of which ratios speak: what one rounds up or down, the next makes good."""
        return self.size if self.began is None else self.began

    def kept(self, wanted: float, round_to: int) -> int:
        """The positions to keep of about `wanted`, so that the channels are a multiple of `round_to`."""
        step = self.step(round_to)
        nearest = math.floor(wanted / step + 0.5) * step
        return min(max(nearest, step), self.size)

    def above(self, threshold: float, round_to: int) -> int:
        """The positions worth more than this, and so many more that the channels are a multiple of `round_to`."""
        step = self.step(round_to)
        return math.ceil(int((self.importances > threshold).sum()) / step) * step

    def step(self, round_to: int) -> int:
        """How many positions go or stay together, so that the channels are a multiple of `round_to`."""
        return round_to // math.gcd(round_to, self.blocks)

    def regret(self, removed: int, step: int) -> float:
        """The mean score of the `step` best of so many removed positions."""
        return float(self.scores.sort().values[removed - step : removed].mean())

    def least(self, count: int) -> list[int]:
        """The channels at the `count` least important positions of each block."""
        positions = self.importances.argsort(stable=True)[:count]
        return sorted(int(p) + block * self.size for block in range(self.blocks) for p in positions)


@dataclass(frozen=True)
class Found:
    """The groups that may shrink, and why the outputs of other layers may not."""

    groups: tuple[ChannelGroup, ...]
    stuck: Mapping[nn.Module, str]


def channel_groups(graph: tp.DependencyGraph, importance: Importance, *, fixed: Collection[nn.Module]) -> Found:
    """Those of channels: none with an output of `fixed`, none on which an output depends."""
    groups, stuck = [], {}
    for group in graph.get_all_groups(ignored_layers=list(fixed)):
        found = _group(graph, group, importance)
        if isinstance(found, ChannelGroup):
            groups.append(found)
        else:
            stuck.update(dict.fromkeys(_givers(graph, group), found))
    return Found(tuple(groups), stuck)


def _group(graph: tp.DependencyGraph, group: tp.dependency.Group, importance: Importance) -> ChannelGroup | str:
    """The group, or why it stays."""
    blocks = _blocks(graph, group)
    if blocks is None:
        return "a convolution in groups shares its channels"
    if reason := next(filter(None, (_against(graph, dep) for dep, _ in group)), None):
        return reason
    importances = importance.of_channels(group)
    if importances is None or len(importances) % blocks:
        return "the importance says nothing of its channels"
    root = group[0].dep.target.module
    return ChannelGroup(
        root=root,
        blocks=blocks,
        importances=importances.view(blocks, -1).mean(0).cpu(),
        uses=tuple(_uses(graph, group, len(importances) // blocks)),
        structure=tuple(sorted(f"{type(d.target.module).__name__}.{d.handler.__name__}" for d, _ in group)),
        remove=partial(remove, graph, root),
    )


def _givers(graph: tp.DependencyGraph, group: tp.dependency.Group) -> Iterator[nn.Module]:
    """The layers whose outputs a group is made of."""
    for dep, _ in group:
        if isinstance(dep.target.module, nn.Module) and graph.is_out_channel_pruning_fn(dep.handler):
            yield dep.target.module


def _uses(graph: tp.DependencyGraph, group: tp.dependency.Group, positions: int) -> Iterator[Use]:
    for dep, places in group:
        layer = dep.target.module
        if isinstance(layer, nn.Module) and any(True for _ in layer.parameters(recurse=False)):
            outputs = graph.is_out_channel_pruning_fn(dep.handler)
            yield Use(layer, outputs, len(places) / positions / _width(layer, outputs=outputs))


def _width(layer: nn.Module, *, outputs: bool) -> int:
    """How many outputs, or inputs, a layer has; a normalization has as many as numbers in its weight."""
    names = ("out_channels", "out_features", "num_features") if outputs else ("in_channels", "in_features")
    told = next((getattr(layer, name) for name in names if hasattr(layer, name)), 0)
    return told or (next(layer.parameters(recurse=False)).shape[0] if outputs else 1)


def head_groups(network: nn.Module, importance: Importance, *, fixed: Collection[nn.Module]) -> Iterator[ChannelGroup]:
    """The heads of every attention outside `fixed`, each a position of as many channels as it is wide."""
    for heads in all_heads(network):
        importances = None if heads.giver in fixed else importance.of_heads(heads)
        if importances is not None:
            yield ChannelGroup(
                root=heads.giver,
                # The channels of a group are counted block by block: here by feature, and within it by head.
                blocks=heads.width,
                importances=importances.cpu(),
                uses=tuple(_uses_of(heads)),
                structure=("heads", type(heads.attention).__name__),
                remove=partial(_remove_heads, heads),
            )


def _uses_of(heads: Heads) -> Iterator[Use]:
    part = 1 / heads.count
    for layer in {heads.attention, heads.giver}:
        yield Use(layer, True, part)
    yield Use(heads.taker, False, part)


def _remove_heads(heads: Heads, channels: list[int]) -> Gone:
    return {heads.giver: heads.remove({channel % heads.count for channel in channels})}


def channel_members(
    graph: tp.DependencyGraph, *, fixed: Collection[nn.Module]
) -> Iterator[tuple[tuple[nn.Parameter, int, tuple[int, ...]], ...]]:
    """For each group that may shrink: tensors, their dimension of channels, and where in it the group's channels are.

    Of the layers that give the channels out: weights, and scale and shift of normalizations.
    """
    for group in graph.get_all_groups(ignored_layers=list(fixed)):
        if _blocks(graph, group) == 1 and not any(_against(graph, dep) for dep, _ in group):
            count = len(group[0].idxs)
            givers = [(d, tuple(i)) for d, i in group if graph.is_out_channel_pruning_fn(d.handler) and len(i) == count]
            yield tuple((t, dim, places) for dep, places in givers for t, dim in _channelled(dep.target.module))


def _channelled(layer: nn.Module) -> Iterator[tuple[nn.Parameter, int]]:
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter.dim() > 1 or not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            yield parameter, int(transposed and name == "weight")


def _against(graph: tp.DependencyGraph, dep: tp.dependency.Dependency) -> str | None:
    """Why a group stays: it goes beyond what is known, or would narrow a layer that has tensors of its own."""
    if is_boundary(dep.target):
        return "the output, or what rearranges channels, takes all of them"
    layer = dep.target.module
    own = {name for name, _ in layer.named_parameters(recurse=False)} if isinstance(layer, nn.Module) else set()
    if graph.is_out_channel_pruning_fn(dep.handler) and not own <= _SLICED:
        return f"a {type(layer).__name__} of the same width has tensors that nobody knows how to cut"
    return None


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


def removals(
    groups: Sequence[ChannelGroup], params: PruneChannels, ratio: float, *, names: Mapping[nn.Module, str]
) -> list[int]:
    """How many positions each group loses until `ratio` of the channels has gone, or what is below the threshold.

    `names` are those of the layers that patterns can mean. Raises `UnfitModel` where nothing of a layer is above it.
    """
    own = [_own_ratio(group, params, names) for group in groups]
    others = [group for group, its in zip(groups, own, strict=True) if its is None]
    wanted = iter(_wanted(others, params, ratio) if params.threshold is None else _above(others, params, names))
    kept = [next(wanted) if its is None else (1 - its) * group.whole for group, its in zip(groups, own, strict=True)]
    return [group.size - group.kept(keep, params.round_to) for group, keep in zip(groups, kept, strict=True)]


def given_back(
    groups: Sequence[ChannelGroup],
    removed: Sequence[int],
    params: PruneChannels,
    fits: Callable[[Sequence[int]], bool],
    *,
    names: Mapping[nn.Module, str],
) -> list[int]:
    """The same with every step of channels given back, the best ones first, behind which the network still fits.

    Where one ratio holds for all and channels go in steps, many layers lose a step at the same ratio; between that
    ratio and the next there is often room for some of them.
    """
    left = list(removed)
    steps = [min(group.step(params.round_to), count) for group, count in zip(groups, left, strict=True)]
    open_ = {n for n, group in enumerate(groups) if left[n] and _own_ratio(group, params, names) is None}
    while open_:
        best = max(open_, key=lambda n: groups[n].regret(left[n], steps[n]))
        trial = [*left[:best], left[best] - steps[best], *left[best + 1 :]]
        if fits(trial):
            left = trial
        if left is not trial or left[best] < steps[best]:
            open_.discard(best)
    return left


def _own_ratio(group: ChannelGroup, params: PruneChannels, names: Mapping[nn.Module, str]) -> float | None:
    """The least of its layers' own ratios; none where the step's holds for all of them."""
    layers = (names[use.layer] for use in group.uses if use.outputs and use.layer in names)
    own = (first_meant(name, params.ratio_by_layer) for name in layers)
    return min((ratio for ratio in own if ratio is not None), default=None)


def _wanted(groups: Sequence[ChannelGroup], params: PruneChannels, ratio: float) -> list[float]:
    """How many positions each group would keep, but for rounding."""
    if params.scope == "layer":
        return [(1 - ratio) * group.whole for group in groups]
    pools: dict[tuple[str, ...], list[ChannelGroup]] = {}
    for group in groups:
        pools.setdefault(_pool(group, params), []).append(group)
    bounds = {key: _bound(pool, ratio) for key, pool in pools.items()}
    return [
        max(float((group.scores >= bounds[_pool(group, params)]).sum()), (1 - _MOST_REMOVED) * group.whole)
        for group in groups
    ]


def _above(groups: Sequence[ChannelGroup], params: PruneChannels, names: Mapping[nn.Module, str]) -> list[float]:
    bound = params.threshold or 0.0
    for group in groups:
        if not (group.importances > bound).any():
            layer, most = names[group.root], float(group.importances.max())
            # No threshold lies below nothing.
            way = "Choose a lower threshold" if most > 0 else "Choose another importance"
            raise UnfitModel(
                f"Nothing would be left of {layer}: its channels are worth {most:.4g} at most, and {bound:g} is asked "
                f"for. {way}, or exclude the layer.",
                layer=layer,
            )
    return [group.above(bound, params.round_to) for group in groups]


def _pool(group: ChannelGroup, params: PruneChannels) -> tuple[str, ...]:
    """Groups with the same pool are ranked together."""
    return group.structure if params.scope == "isomorphic" else ()


def _bound(pool: Sequence[ChannelGroup], ratio: float) -> float:
    """The score below which the channels lie that go until `ratio` of them has gone."""
    ranked = torch.cat([group.scores for group in pool]).sort().values
    whole = sum(group.whole for group in pool)
    gone = max(0, int(ratio * whole - (whole - len(ranked))))
    return float(ranked[min(gone, len(ranked) - 1)])


def remove(graph: tp.DependencyGraph, layer: nn.Module, channels: list[int]) -> Gone:
    """Remove the layer's output channels, and all that depends on them; the outputs that went, layer by layer."""
    slicing = graph.get_pruner_of_module(layer).prune_out_channels
    group = graph.get_pruning_group(layer, slicing, channels)
    if not graph.check_pruning_group(group):
        return {}
    group.prune(record_history=False)
    return {dep.target.module: places for dep, places in group if graph.is_out_channel_pruning_fn(dep.handler)}
