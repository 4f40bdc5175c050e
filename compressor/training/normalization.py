"""The statistics of batch normalization, measured anew on images without labels.

Pruning shifts what layers give out, and the statistics kept from training no longer fit; measuring them again gives
back most of what one-shot pruning loses (Li et al. 2020, EagleEye, section 3.3).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from compressor.data.images import Images

_BATCH = 64
_NORMS = (nn.modules.batchnorm._BatchNorm,)


def normalizations(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The parts with statistics of their own."""
    return [part for part in module.modules() if isinstance(part, _NORMS) and part.track_running_stats]


@torch.no_grad()
def recalibrate(module: nn.Module, images: Images, *, device: torch.device) -> int:
    """Replace the statistics by the mean over batches of `images`; how many parts had any.

    All else computes as in eval mode, so that dropout and the like change nothing.
    """
    parts = normalizations(module)
    if parts:
        with _measuring(module, parts):
            for batch in images.batches(_BATCH):
                module(batch.x.to(device))
    return len(parts)


@contextmanager
def _measuring(module: nn.Module, parts: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
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
