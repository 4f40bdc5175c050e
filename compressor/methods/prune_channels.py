"""Structured pruning: the least important channels are removed (Li et al. 2017, arXiv:1608.08710)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.layers import check_each, matches, matching, weighted_modules
from compressor.measure.counting import count_macs, count_parameters
from compressor.measure.quartiles import quartiles
from compressor.models.edits import edits_between
from compressor.pruning.channels import Narrowed, Pruning, Target, narrow
from compressor.pruning.latency import Reached, least_ratio
from compressor.pruning.reconstruction import Goal, reconstruct
from compressor.pruning.rounds import Rounds, SoFar, Start
from compressor.training.normalization import recalibrate_on_few
from contract.failures import MissingData, UnfitModel
from contract.methods import Role
from contract.methods.prune import TARGETS, PruneChannels
from contract.value import Json

_BATCH = 32
#: Of layers whose channels are in no group that was looked at.
_UNSEEN = "its channels depend on layers that are left alone, or in a way that is not known"


def preflight(candidate: Candidate, params: PruneChannels) -> None:
    """See whether the patterns match."""
    names = list(weighted_modules(candidate.module))
    matching(names, include=params.include, exclude=params.exclude)
    check_each(params.ratio_by_layer, names, pointer="/ratio_by_layer")


def apply(candidate: Candidate, params: PruneChannels, context: Context) -> Candidate:
    """Remove channels everywhere but in the classifier and where the patterns forbid it.

    Raises `PruningFailed` where the dependencies between channels cannot be followed, and `UnfitModel` where they can
    but leave nothing to remove, or more than the target.
    """
    preflight(candidate, params)
    start = Start.of(candidate)
    candidate.module.to(context.device)
    rounds = Rounds.of(params.rounds, params.recipe, context)
    made, so_far = rounds.begin(candidate), rounds.so_far
    goal = Goal(made.module)
    for number in rounds.left():
        context.progress(number / params.rounds, "finding dependencies")
        narrowed, found = _Round(made, params, context, start, so_far, (number + 1) / params.rounds).narrowed()
        so_far = replace(so_far, reached=so_far.reached.then(found))
        if number == 0:
            so_far = replace(so_far, began={name: len(worth) for name, worth in narrowed.importances.items()})
            _tell_importances(narrowed, context)
        goal = (Goal(made.module) if rounds.train_between else goal).behind(narrowed)
        samples = params.reconstruct_samples if number + 1 == params.rounds else None
        _make_up(narrowed, goal, made.input_shape, params, rounds.pruning(number), samples or params.samples)
        made = rounds.train(_narrower(made, narrowed), number, so_far)
    channels, heads = start.channels(made.module), start.heads_lost(made.module)
    if not heads and not any(before > after for before, after in channels.values()):
        raise _nothing(list(channels), narrowed, params)
    if heads:
        context.record("heads", {name: [before, after] for name, (before, after) in heads.items()})
    _tell(channels, narrowed, params, context)
    if params.latency_ratio is not None:
        context.record("latency_left", so_far.reached.left)
        context.record("ratio", so_far.reached.ratio)
    context.record("macs_left", narrowed.macs / start.macs if start.macs else 1.0)
    context.record("parameters_left", count_parameters(made.module) / start.parameters)
    return made


@dataclass(frozen=True)
class _Round:
    """One round: it goes on towards what all rounds until then shall leave, whatever the earlier ones have left."""

    candidate: Candidate
    params: PruneChannels
    context: Context
    start: Start
    so_far: SoFar
    #: The part of all rounds that is done with it.
    part: float

    def narrowed(self) -> tuple[Narrowed, Reached]:
        """What it leaves, and what it has reached, where that is measured."""
        pruning, candidate, context = self._pruning, self.candidate, self.context
        if self.params.latency_ratio is None:
            return narrow(candidate.module, pruning), Reached()

        def left(ratio: float) -> float:
            context.progress(ratio, f"timing it with {ratio:.0%} of the channels removed")
            faster = _narrower(candidate, narrow(candidate.module, replace(pruning, target=Target(None, ratio))))
            before, after = context.time([candidate, faster])
            return after / before

        reached = least_ratio(left, self.params.latency_ratio**self.part, now=self.so_far.reached.left)
        return narrow(candidate.module, replace(pruning, target=Target(None, reached.ratio))), reached

    @property
    def _pruning(self) -> Pruning:
        candidate, params = self.candidate, self.params
        names = weighted_modules(candidate.module)
        own = {glob: self._gone(ratio) for glob, ratio in params.ratio_by_layer.items()}
        return Pruning(
            params=params.model_copy(update={"ratio_by_layer": own}),
            example=torch.zeros(1, *candidate.input_shape, device=next(candidate.module.parameters()).device),
            fixed=frozenset(n for n in names if not matches(n, include=params.include, exclude=params.exclude)),
            masks=candidate.masks,
            target=self._target,
            began=self.so_far.began,
            images=_images(params, self.context),
            seed=self.context.seed,
        )

    @property
    def _target(self) -> Target:
        """Each round takes the same part of what is left."""
        params, module = self.params, self.candidate.module
        if params.macs_ratio is not None:
            macs = count_macs(module, self.candidate.input_shape).total
            now = macs / self.start.macs if self.start.macs else 1.0
            return Target("macs", params.macs_ratio**self.part, now=now, at_last=params.macs_ratio)
        if params.parameters_ratio is not None:
            now = count_parameters(module) / self.start.parameters
            return Target("parameters", params.parameters_ratio**self.part, now=now, at_last=params.parameters_ratio)
        return Target(None, self._gone(params.ratio or 0.0))

    def _gone(self, ratio: float) -> float:
        """What has gone behind this round of what shall go in all."""
        left: float = (1 - ratio) ** self.part
        return 1 - left


def _images(params: PruneChannels, context: Context) -> Images | None:
    if Role.CALIBRATION not in params.roles:
        return None
    if context.calibration is None:
        raise MissingData(f"Importance {params.importance} needs images. Name a dataset under data.calibration.")
    return context.calibration.take(params.samples, seed=context.seed)


def _make_up(
    narrowed: Narrowed, goal: Goal, shape: tuple[int, int, int], params: PruneChannels, context: Context, samples: int
) -> None:
    """Fit what is left, or at least the statistics behind it, to images, where there are any."""
    if context.calibration is None:
        return
    images = context.calibration.take(samples, seed=context.seed)
    # Layers that give what they gave have no use for other statistics.
    whole = params.reconstruct and _reconstruct(narrowed, goal, shape, images, context)
    if params.recalibrate and not whole:
        recalibrate_on_few(narrowed.module, context.calibration, seed=context.seed, device=context.device)


def _reconstruct(narrowed: Narrowed, goal: Goal, shape: tuple[int, int, int], images: Images, context: Context) -> bool:
    """Whether every layer that has lost inputs was fitted."""
    found = reconstruct(
        narrowed,
        goal,
        lambda: (batch.x for batch in images.batches(_BATCH, device=context.device)),
        input_shape=shape,
        seed=context.seed,
        tell=lambda done: context.progress(done, f"fitting what is left to {len(images)} images"),
    )
    found.tell(context)
    return not found.left


def _narrower(before: Candidate, narrowed: Narrowed) -> Candidate:
    _restore_modes(before.module, narrowed.module)
    edits = (*before.edits, *edits_between(before.module, narrowed.module))
    return replace(before, module=narrowed.module, edits=edits, masks=narrowed.masks)


def _restore_modes(before: nn.Module, after: nn.Module) -> None:
    """Let every part train, or not, as it did."""
    parts = dict(before.named_modules())
    for name, part in after.named_modules():
        part.training = parts[name].training
    for name, parameter in after.named_parameters():
        parameter.requires_grad_(before.get_parameter(name).requires_grad)


def _nothing(layers: Sequence[str], narrowed: Narrowed, params: PruneChannels) -> UnfitModel:
    left = _left(layers, narrowed, params)
    # One layer for each reason: networks have hundreds of layers, and few reasons.
    named = list({reason: name for name, reason in reversed(left.items())}.items())[::-1]
    cause = f"; {_listed(narrowed.opaque)} rearrange their channels" if narrowed.opaque else ""
    return UnfitModel(
        f"No channel can be removed with {_asked(params)} and round_to {params.round_to} from the layers that the "
        f"patterns mean: {', '.join(f'{name}, because {reason}' for reason, name in named)}{cause}.",
        layer=next(iter(left), None),
    )


def _left(layers: Sequence[str], narrowed: Narrowed, params: PruneChannels) -> dict[str, str]:
    """Why each of these layers that the patterns mean keeps its width."""
    wanted = [name for name in layers if matches(name, include=params.include, exclude=params.exclude)]
    return {name: narrowed.stuck.get(name, _UNSEEN) for name in wanted}


def _tell(channels: Mapping[str, tuple[int, int]], narrowed: Narrowed, params: PruneChannels, context: Context) -> None:
    narrower: dict[str, Json] = {name: [old, new] for name, (old, new) in channels.items() if old > new}
    left = _left([name for name in channels if name not in narrower], narrowed, params)
    context.record("channels", narrower)
    context.record("layers_left_alone", {**left})
    if narrowed.opaque:
        context.notice(
            "layers_left_alone",
            f"{len(left)} of {len(left) + len(narrower)} layers keep their widths, because "
            f"{_listed(narrowed.opaque)} rearrange channels; what lies within a block was narrowed.",
        )


def _tell_importances(narrowed: Narrowed, context: Context) -> None:
    """The least, the quartiles and the most that is worth something in each layer: what a threshold is chosen by."""
    found: dict[str, Json] = {name: list(quartiles(worth)) for name, worth in narrowed.importances.items()}
    context.record("importance", found)


def _asked(params: PruneChannels) -> str:
    """What the step says of how much shall go, in words."""
    told = params.model_dump(include={"ratio", *TARGETS}, exclude_none=True)
    return " and ".join(f"{name} {value:g}" for name, value in told.items())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name or "the network itself" for name in names[:3]) + (" and others" if len(names) > 3 else "")
