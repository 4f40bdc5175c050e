"""Penalties by their proximal operators: what they shrink to zero is exactly zero.

An update of the loss is followed by prox(w) = argmin ||v - w||^2 / 2 + t P(v) (Parikh and Boyd 2014, sections 6.5.2 and
6.5.4), apart from the update rule's own scaling, as weight decay is in AdamW.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from compressor.training.state import AfterUpdate, Run

#: Shrinks some tensors in place by a threshold.
Shrink = Callable[[float], None]


@torch.no_grad()
def soft_threshold(tensors: Sequence[Tensor], threshold: float) -> None:
    """sign(w) max(|w| - threshold, 0), in place: the proximal operator of the L1 norm."""
    for tensor in tensors:
        tensor.copy_(torch.nn.functional.softshrink(tensor, threshold))


def shrinking(shrink: Shrink, *, strength: float, growing: bool, updates: int) -> AfterUpdate:
    """After each update: shrink by the step size times the strength, which may grow from 0 over all updates."""

    def after(run: Run, update: int) -> None:
        grown = (update + 1) / updates if growing else 1.0
        shrink(float(run.optimizer.param_groups[0]["lr"]) * strength * grown)

    return after
