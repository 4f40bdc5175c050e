"""Networks with fewer channels: Torch-Pruning finds the dependencies and slices, what may go is ours to say."""

import warnings
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.layers import weighted_modules
from compressor.measure.counting import count_macs
from compressor.pruning.copying import over_the_same_tensors, part
from compressor.pruning.costs import Costs
from compressor.pruning.groups import ChannelGroup, Gone, channel_groups, given_back, head_groups, removals
from compressor.pruning.heads import unfuse
from compressor.pruning.importance import IMPORTANCES, Importance, Shown
from compressor.pruning.opaque import composite
from compressor.pruning.tracing import Rearranged, trace
from compressor.time_limit import Limit, TimeLimitExceeded, time_limit
from contract.failures import PruningFailed, UnfitModel
from contract.methods.prune import PruneChannels

R = TypeVar("R")

#: The largest ratio that is tried, and how often the way to it is halved.
_MOST, _HALVINGS = 0.99, 24

#: DenseNet-201, the slowest of torchvision's, takes 40 s.
SECONDS = 300.0

#: What Torch-Pruning and a network that was sliced wrongly raise.
_CAUSES = (
    RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError, ZeroDivisionError,
)  # fmt: skip


@dataclass(frozen=True)
class Narrowed:
    """A network with fewer channels."""

    module: nn.Module
    #: By parameter, true where a weight is kept that an earlier pruning could have masked.
    masks: Mapping[str, Tensor]
    #: The modules around which dependencies were not followed, by name.
    opaque: tuple[str, ...]
    #: What was there to choose from: importances of the channels, or heads, of each layer, by name.
    importances: Mapping[str, Tensor]
    #: The numbers of those outputs that each convolution and linear layer still has, by name.
    outputs: Mapping[str, Tensor]
    #: Multiply-accumulates for one image.
    macs: int
    #: Why layers have as many outputs as before, by name.
    stuck: Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """How much shall be left of multiply-accumulates or parameters; or, of neither, the ratio of channels that goes.

    All numbers are parts of what there was before the first round.
    """

    of: Literal["macs", "parameters"] | None
    left: float
    #: What is left already, behind earlier rounds.
    now: float = 1.0
    #: What shall be left behind the last round; none where this is the last.
    at_last: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What shall be pruned, and how."""

    params: PruneChannels
    #: One input, of shape (1, C, H, W).
    example: Tensor
    #: Layers whose outputs keep their widths, by name.
    fixed: Collection[str] = ()
    #: For an already pruned parameter's name, true where a weight is kept.
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    target: Target
    #: How many positions groups had before the first round, by the names of their roots; none where this is the first.
    began: Mapping[str, int] = field(default_factory=dict)
    #: What importances may look at.
    images: Images | None = None
    seed: int = 0


def narrow(module: nn.Module, pruning: Pruning, *, seconds: float = SECONDS) -> Narrowed:
    """A copy of the network without its least important channels, in eval mode; the network itself stays as it is.

    Raises `PruningFailed` where the dependencies between channels cannot be found, or not in `seconds`, among which
    those for looking at images do not count.
    """
    narrowed = on_a_copy(
        module,
        pruning.example,
        lambda network, opaque, limit: _narrowed(network, pruning, opaque, limit),
        prepare=lambda network: unfuse(network, pruning.example, fixed=pruning.fixed),
        seconds=seconds,
    )
    part(narrowed.module, module)
    return narrowed


def _as_it_is(network: nn.Module) -> None:
    del network


#: What is done with a copy of a network, given the modules of it around which dependencies are cut, and its limit.
Work = Callable[[nn.Module, Sequence[nn.Module], Limit], R]


def on_a_copy(
    module: nn.Module,
    example: Tensor,
    work: Work[R],
    *,
    prepare: Callable[[nn.Module], None] = _as_it_is,
    seconds: float = SECONDS,
) -> R:
    """Do what needs the dependencies between channels on a copy of the network, prepared and in eval mode.

    The copy shares the network's numbers until it is narrowed.

    Raises `PruningFailed` where they cannot be found, or not in `seconds`.
    """
    try:
        with time_limit(seconds) as limit:
            return _first_that_works(module, example, lambda network, opaque: work(network, opaque, limit), prepare)
    except TimeLimitExceeded as error:
        raise PruningFailed(f"It takes more than {seconds:g} s to see which channels depend on each other.") from error


def _first_that_works(
    module: nn.Module,
    example: Tensor,
    work: Callable[[nn.Module, Sequence[nn.Module]], R],
    prepare: Callable[[nn.Module], None],
) -> R:
    """Cut the dependencies around what rearranges channels; where that is not enough, around all but plain chains."""

    def attempt(opaque_modules: Callable[[nn.Module], Sequence[str]]) -> R:
        network = over_the_same_tensors(module).eval().requires_grad_(True)
        with warnings.catch_warnings():
            # It warns of parameters outside of layers, and of what it takes them for; the network is run below.
            warnings.simplefilter("ignore")
            prepare(network)
            return work(network, [network.get_submodule(name) for name in opaque_modules(network)])

    try:
        return _whole(attempt)
    except _CAUSES as error:
        whole = _reason(error)
    try:
        return attempt(lambda network: composite(network, example))
    except _CAUSES as error:
        raise PruningFailed(
            f"Its channels cannot be followed, as a whole ({whole}) or in parts ({_reason(error)})."
        ) from error


def _whole(attempt: Callable[[Callable[[nn.Module], Sequence[str]]], R]) -> R:
    """With dependencies cut only around what is seen to rearrange channels, mostly nothing."""
    try:
        return attempt(lambda _: ())
    except Rearranged as found:
        opaque = found.modules
    return attempt(lambda _: opaque)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"


def _narrowed(network: nn.Module, pruning: Pruning, opaque: Sequence[nn.Module], limit: Limit) -> Narrowed:
    names = {part: name for name, part in network.named_modules()}
    fixed = [part for part, name in names.items() if name in pruning.fixed]
    before: list[Tensor] = []
    with network.register_forward_hook(lambda *run: before.append(run[-1].detach())):
        graph = trace(network, pruning.example, opaque=opaque)
    shown = Shown(network, graph, pruning.seed, pruning.images)
    importance = _unhurried(limit, IMPORTANCES[pruning.params.importance], shown)
    found = channel_groups(graph, importance, fixed=fixed)
    groups = [
        replace(group, began=pruning.began.get(names[group.root]))
        for group in (*found.groups, *head_groups(network, importance, fixed=fixed))
    ]
    removed = _removed(network, groups, pruning)
    stuck = {**found.stuck, **_whole_ones(groups, removed, pruning.params.round_to)}
    _mark(network, pruning.masks)
    layers = (part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear))
    outputs: dict[nn.Module, Tensor] = {layer: torch.arange(len(layer.weight)) for layer in layers}
    for group, count in zip(groups, removed, strict=True):
        if count:
            _lose(outputs, group.remove(group.least(count)))
    masks = _unmarked(network, pruning.masks)
    after: list[Tensor] = []
    with network.register_forward_hook(lambda *run: after.append(run[-1])):
        macs = count_macs(network, _shape_of(pruning.example)).total
    if after[0].shape != before[0].shape or (_is_odd(after[0]) and not _is_odd(before[0])):
        raise ValueError("without the channels it answers in another shape, or not in numbers")
    importances = {names[group.root]: group.importances for group in groups}
    left = {names[layer]: numbers for layer, numbers in outputs.items()}
    # Torch-Pruning's nodes for operators and outputs have no name.
    reasons = {names[layer]: reason for layer, reason in stuck.items() if layer in names}
    return Narrowed(network, masks, tuple(sorted(names[part] for part in opaque)), importances, left, macs, reasons)


def _unhurried(limit: Limit, importance: Callable[[Shown], Importance], shown: Shown) -> Importance:
    """What tells what channels are worth; while it looks, and while it tells, time does not count."""
    found = limit.paused()(importance)(shown)
    return Importance(limit.paused()(found.of_channels), limit.paused()(found.of_heads))


def _whole_ones(groups: Sequence[ChannelGroup], removed: Sequence[int], round_to: int) -> dict[nn.Module, str]:
    """Why the layers of groups that could shrink do not."""
    reasons = {}
    for group, count in zip(groups, removed, strict=True):
        if not count:
            narrow = group.size <= group.step(round_to)
            reason = f"it is too narrow for round_to {round_to}" if narrow else "all of its channels are needed"
            reasons.update({use.layer: reason for use in group.uses if use.outputs})
    return reasons


def _shape_of(example: Tensor) -> tuple[int, int, int]:
    """(C, H, W)."""
    _, channels, height, width = example.shape
    return channels, height, width


def _is_odd(answer: Tensor) -> bool:
    """Whether something in it is no number."""
    return not bool(answer.isfinite().all())


def _lose(outputs: MutableMapping[nn.Module, Tensor], gone: Gone) -> None:
    """Take what has gone, by its places among those that were left, from the numbers of the outputs."""
    for layer in gone.keys() & outputs.keys():
        left = torch.ones(len(outputs[layer]), dtype=torch.bool)
        left[torch.as_tensor(gone[layer])] = False
        outputs[layer] = outputs[layer][left]


def _removed(network: nn.Module, groups: Sequence[ChannelGroup], pruning: Pruning) -> list[int]:
    """How many positions each group loses: by the ratio, or so many that the target is just met."""
    params, target = pruning.params, pruning.target
    names = {layer: name for name, layer in weighted_modules(network).items()}
    if target.of is None and params.compare == "mean":
        return removals(groups, params, target.left, names=names)
    costs = Costs(network, _shape_of(pruning.example), [group.uses for group in groups])
    left = costs.parameters_left if target.of == "parameters" else costs.macs_left
    compared = groups if params.compare == "mean" else _priced(groups, left)

    def losing(ratio: float) -> list[int]:
        return removals(compared, params, ratio, names=names)

    if target.of is None:
        return losing(target.left)
    least = losing(_least_ratio(lambda ratio: target.now * left(losing(ratio)), target))
    return given_back(compared, least, params, lambda removed: target.now * left(removed) <= target.left, names=names)


def _priced(groups: Sequence[ChannelGroup], left: Callable[[Sequence[int]], float]) -> list[ChannelGroup]:
    """The groups with what a position costs where no other has gone."""
    alone = torch.eye(len(groups), dtype=torch.long).tolist()
    return [replace(group, cost=1 - left(one)) for group, one in zip(groups, alone, strict=True)]


def _least_ratio(left: Callable[[float], float], target: Target) -> float:
    """The smallest ratio that leaves no more than the target, by bisection.

    Raises `UnfitModel` where none does, or none what shall be left at last: then no round is worth its training.
    """
    low, high = 0.0, _MOST
    asked = target.left if target.at_last is None else target.at_last
    if (reached := left(high)) > asked:
        raise UnfitModel(
            f"A {target.of}_ratio of {asked:g} cannot be met: with everything removed that may go, {reached:.3f} of "
            "them are left."
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > target.left else (low, middle)
    return high


def _mark(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Make masked weights NaN, which no other weight is, so that they are known again after the tensors are sliced."""
    for name, mask in masks.items():
        parameter = network.get_parameter(name)
        parameter.data = parameter.data.masked_fill(~mask.to(parameter.device), torch.nan)


def _unmarked(network: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks of what is left; masked weights become zero again."""
    left = {name: ~network.get_parameter(name).detach().isnan() for name in masks}
    for name, mask in left.items():
        network.get_parameter(name).data[~mask] = 0
    return left
