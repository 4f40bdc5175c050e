"""The statistics of batch normalization, measured anew on images without labels.

Pruning shifts what layers give out, and the statistics kept from training no longer fit; measuring them again gives
back most of what one-shot pruning loses (Li et al. 2020, EagleEye, section 3.3).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.data.images import Images

#: Images on which statistics are well enough known.
_ENOUGH = 1024
_BATCH = 64
_Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel (channels,) that a normalization is given."""

    mean: Tensor
    variance: Tensor


def normalizations(module: nn.Module) -> dict[str, _Norm]:
    """The parts with statistics of their own, by name."""
    parts = ((name, part) for name, part in module.named_modules() if isinstance(part, _Norm))
    return {name: part for name, part in parts if part.track_running_stats}


@torch.no_grad()
def recalibrate(module: nn.Module, images: Images, *, device: torch.device) -> int:
    """Replace the statistics by the mean over batches of `images`; how many parts had any.

    All else computes as in eval mode, so that dropout and the like change nothing.
    """
    found = moments(module, images, device=device)
    for name, part in normalizations(module).items():
        _set(part, found[name])
    return len(found)


def recalibrate_on_few(module: nn.Module, images: Images, *, seed: int, device: torch.device) -> None:
    """Recalibrate behind a change of the network, on as many of the images as are enough."""
    recalibrate(module, images.take(_ENOUGH, seed=seed), device=device)


@torch.no_grad()
def moments(module: nn.Module, images: Images, *, device: torch.device) -> dict[str, Moments]:
    """What every normalization is given when the network sees `images`; the statistics stay what they are."""
    parts = normalizations(module)
    if not parts:
        return {}
    kept = {name: _of(part) for name, part in parts.items()}
    with _measuring(module, list(parts.values())):
        for batch in images.batches(_BATCH, device=device):
            module(batch.x)
    found = {name: _of(part) for name, part in parts.items()}
    for name, part in parts.items():
        _set(part, kept[name])
    return found


@torch.no_grad()
def shift(module: nn.Module, images: Images, before: Mapping[str, Moments], *, device: torch.device) -> None:
    """Move the statistics as what the normalizations are given has moved since `before`, on the same images.

    Statistics are of all that the network was trained on, and a few images have others. By how many standard deviations
    the two means differ, and in what ratio the variances stand, is kept: where nothing has changed, nothing moves.
    """
    after = moments(module, images, device=device)
    for name, part in normalizations(module).items():
        old, was, now = _of(part), before[name], after[name]
        grown = torch.where(was.variance > 0, now.variance / was.variance, 1.0)
        _set(part, Moments(now.mean + (old.mean - was.mean) * grown.sqrt(), old.variance * grown))


@contextmanager
def following(module: nn.Module, images: Images | None, *, seed: int, device: torch.device) -> Iterator[None]:
    """Statistics follow what is done to the network in this block, as far as images tell, where there are any."""
    if images is None:
        yield
        return
    few = images.take(_ENOUGH, seed=seed)
    before = moments(module, few, device=device)
    yield
    shift(module, few, before, device=device)


def _of(part: _Norm) -> Moments:
    assert part.running_mean is not None
    assert part.running_var is not None
    return Moments(part.running_mean.clone(), part.running_var.clone())


def _set(part: _Norm, found: Moments) -> None:
    assert part.running_mean is not None
    assert part.running_var is not None
    part.running_mean.copy_(found.mean)
    part.running_var.copy_(found.variance)


@contextmanager
def _measuring(module: nn.Module, parts: list[_Norm]) -> Iterator[None]:
    momenta = [part.momentum for part in parts]
    module.eval()
    for part in parts:
        part.reset_running_stats()
        # None: the plain mean over all batches.
        part.train().momentum = None
    try:
        yield
    finally:
        for part, momentum in zip(parts, momenta, strict=True):
            part.eval().momentum = momentum
