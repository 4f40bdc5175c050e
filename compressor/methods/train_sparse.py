"""Sparse training: a penalty drives to zero what a later step cuts (Liu et al. 2017, arXiv:1708.06519, for scales)."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matches, matching, weight_names, weighted_modules
from compressor.pruning.slices import channel_slices
from compressor.sparsity.histogram import Tally, histogram
from compressor.sparsity.proximal import Shrink, shrinking, soft_threshold
from compressor.training.normalization import normalizations, recalibrate_on_few
from compressor.training.recovery import recover
from compressor.training.splitting import split_of
from contract.failures import UnfitModel
from contract.methods.sparse import TrainSparse


def preflight(candidate: Candidate, params: TrainSparse) -> None:
    """See whether the patterns match something that can be driven to zero."""
    if not _parts(candidate.module, params):
        raise UnfitModel(f"The model has no {params.target} that could be driven to zero.")
    matching(list(_parts(candidate.module, params)), include=params.include, exclude=params.exclude)


def apply(candidate: Candidate, params: TrainSparse, context: Context) -> Candidate:
    """Train with the penalty; the report has the histogram of what it pulled at, before and after."""
    preflight(candidate, params)
    candidate.module.to(context.device)
    shrink = _shrink(candidate, params)
    pulled = dict(_pulled(candidate.module, params))
    before = Tally.of(pulled)
    images = split_of(params, context)
    per_epoch = len(images.learn.batch_sizes(params.batch_size))
    after = shrinking(shrink, strength=params.strength, growing=params.growing, updates=params.epochs * per_epoch)
    recover(candidate, params, context, after_update=after)
    # The running statistics lag behind weights that shrink with every update.
    recalibrate_on_few(candidate.module, context.calibration or images.learn, seed=context.seed, device=context.device)
    left = {name: candidate.module.get_parameter(name) for name in pulled}
    context.record("histogram", histogram(before, left))
    context.record("zeros", sum(int((t == 0).sum()) for t in left.values()) / sum(t.numel() for t in left.values()))
    return candidate


def _parts(module: nn.Module, params: TrainSparse) -> dict[str, nn.Module]:
    """The modules that the target speaks of, by name."""
    if params.target != "bn_scales":
        return weighted_modules(module)
    norms = set(normalizations(module).values())
    return {name: part for name, part in module.named_modules() if part in norms and part.weight is not None}


def _meant(module: nn.Module, params: TrainSparse) -> dict[str, nn.Module]:
    parts = _parts(module, params)
    return {name: parts[name] for name in matching(list(parts), include=params.include, exclude=params.exclude)}


def _pulled(module: nn.Module, params: TrainSparse) -> Iterator[tuple[str, Tensor]]:
    """What is driven to zero, by parameter name; of channels, the weights of the layers that give them out."""
    for name, part in _meant(module, params).items():
        for own in ["weight"] if params.target == "bn_scales" else weight_names(part):
            yield f"{name}.{own}", getattr(part, own)


def _shrink(candidate: Candidate, params: TrainSparse) -> Shrink:
    module = candidate.module
    if params.target == "channels":
        return _shrink_channels(candidate, params)
    tensors: Mapping[str, Tensor] = dict(_pulled(module, params))
    return lambda threshold: soft_threshold(list(tensors.values()), threshold)


def _shrink_channels(candidate: Candidate, params: TrainSparse) -> Shrink:
    names = weighted_modules(candidate.module)
    fixed = [name for name in names if not matches(name, include=params.include, exclude=params.exclude)]
    example = torch.zeros(1, *candidate.input_shape, device=next(candidate.module.parameters()).device)
    groups = channel_slices(candidate.module, example, fixed=fixed)
    if not groups:
        raise UnfitModel("No channels can be driven to zero: other layers or the output need all of them.")

    def shrink(threshold: float) -> None:
        for group in groups:
            group.shrink(threshold)

    return shrink
