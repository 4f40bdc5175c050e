"""Depth pruning: the residual blocks that do least are removed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.layers import matching
from compressor.measure.accuracy import answers
from compressor.measure.counting import count_macs, count_parameters
from compressor.models.edits import Remove, apply_edits
from compressor.pruning.blocks import by_fidelity, by_magnitude, by_output, removable_blocks
from compressor.training.normalization import recalibrate_on_few
from contract.failures import MissingData, UnfitModel
from contract.methods import Role
from contract.methods.depth import PruneBlocks

#: Tells what each of these blocks is worth in the network as it is now.
_Worth = Callable[[Sequence[str]], dict[str, float]]


def preflight(candidate: Candidate, params: PruneBlocks) -> None:
    """See whether there are blocks to remove, and enough of them."""
    _check(_blocks(candidate, params), _Costs.of(candidate), params)


def apply(candidate: Candidate, params: PruneBlocks, context: Context) -> Candidate:
    """Remove the least important residual blocks, one by one, until as many are gone as was asked for.

    Raises `UnfitModel` where the network has none, or not enough.
    """
    candidate.module.to(context.device)
    blocks, costs = _blocks(candidate, params), _Costs.of(candidate)
    _check(blocks, costs, params)
    worth = _worth(candidate, params, context)
    importance = worth(blocks)
    removed: list[str] = []
    while not _enough(removed, costs, params):
        context.progress(len(removed) / len(blocks), f"{len(removed)} blocks removed")
        left = [name for name in blocks if name not in removed]
        if removed and params.importance == "fidelity":
            importance |= worth(left)
        least = min(left, key=importance.__getitem__)
        apply_edits(candidate.module, [Remove(module=least)])
        removed.append(least)
    context.record("blocks", dict(importance))
    context.record("removed", list(removed))
    context.record("macs_left", costs.macs_left(removed))
    context.record("parameters_left", costs.parameters_left(removed))
    made = _without(candidate, removed)
    if params.recalibrate and context.calibration is not None:
        recalibrate_on_few(made.module, context.calibration, seed=context.seed, device=context.device)
    return made


@dataclass(frozen=True)
class _Costs:
    """What blocks cost, of all that the network does."""

    macs: dict[str, int]
    total_macs: int
    parameters: dict[str, int]
    total_parameters: int

    @classmethod
    def of(cls, candidate: Candidate) -> "_Costs":
        """Count every module."""
        macs = count_macs(candidate.module, candidate.input_shape)
        parameters = {name: count_parameters(part) for name, part in candidate.module.named_modules()}
        return cls(dict(macs.by_module), macs.total, parameters, parameters[""])

    def macs_left(self, removed: Sequence[str]) -> float:
        """The part of the multiply-accumulates that is left without these."""
        return 1 - sum(self.macs.get(name, 0) for name in removed) / self.total_macs

    def parameters_left(self, removed: Sequence[str]) -> float:
        """The same of the parameters."""
        return 1 - sum(self.parameters[name] for name in removed) / self.total_parameters


def _blocks(candidate: Candidate, params: PruneBlocks) -> list[str]:
    found = removable_blocks(candidate.module, candidate.input_shape)
    if not found:
        raise UnfitModel("The model has no residual block that can be removed without changing the shapes around it.")
    return matching(found, include=params.include, exclude=params.exclude)


def _check(blocks: Sequence[str], costs: _Costs, params: PruneBlocks) -> None:
    if _enough(blocks, costs, params):
        return
    asked = params.model_dump(include={"count", "macs_ratio", "parameters_ratio"}, exclude_none=True)
    name, value = next(iter(asked.items()))
    raise UnfitModel(
        f"{name} {value:g} cannot be reached: there are {len(blocks)} blocks that may go, {', '.join(blocks)}, and "
        f"without them {costs.macs_left(blocks):.1%} of the MACs and {costs.parameters_left(blocks):.1%} of the "
        "parameters are left.",
        pointer=f"/{name}",
    )


def _enough(removed: Sequence[str], costs: _Costs, params: PruneBlocks) -> bool:
    if params.macs_ratio is not None:
        return costs.macs_left(removed) <= params.macs_ratio
    if params.parameters_ratio is not None:
        return costs.parameters_left(removed) <= params.parameters_ratio
    return len(removed) >= (params.count or 1)


def _worth(candidate: Candidate, params: PruneBlocks, context: Context) -> _Worth:
    module, device = candidate.module, context.device
    if params.importance == "l1":
        return lambda blocks: by_magnitude(module, blocks)
    images = _images(params, context)
    if params.importance == "output":
        return lambda blocks: by_output(module, blocks, images, device=device)
    original = answers(module, images, device=device)
    return lambda blocks: by_fidelity(module, blocks, images, original, device=device)


def _images(params: PruneBlocks, context: Context) -> Images:
    assert Role.CALIBRATION in params.roles
    if context.calibration is None:
        raise MissingData(f"Importance {params.importance} needs images. Name a dataset under data.calibration.")
    return context.calibration.take(params.samples, seed=context.seed)


def _without(candidate: Candidate, removed: Sequence[str]) -> Candidate:
    """The candidate with these edits told, and without masks of what is gone."""
    gone = tuple(f"{name}." for name in removed)
    return replace(
        candidate,
        edits=(*candidate.edits, *(Remove(module=name) for name in removed)),
        masks={name: mask for name, mask in candidate.masks.items() if not name.startswith(gone)},
    )
