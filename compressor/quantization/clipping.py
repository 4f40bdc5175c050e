"""Activations whose clipping level is learned (Choi et al. 2018, PACT: parameterized clipping activation)."""

from typing import Any

import torch
from torch import Tensor

from compressor.quantization.learned import ActivationStep
from compressor.quantization.plan import ActivationCode


class _Clipped(torch.autograd.Function):
    """Values from zero to a clipping level of `high` steps as their codes mean them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, growth: Tensor, high: int, decay: float) -> Tensor:
        del growth  # Its gradient stands for that of the clipping level.
        steps = x / step
        ctx.save_for_backward(steps, step)
        ctx.high, ctx.decay = high, decay
        return steps.round().clamp_(0, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (steps, step), high, gradient = ctx.saved_tensors, ctx.high, gradients[0]
        # Equation 3: one where a value is clipped, and zero below, whatever rounding does.
        by_level = (gradient * (steps >= high)).sum_to_size(step.shape)
        inside = torch.ops.aten.hardtanh_backward(gradient, steps, 0, high)
        return inside, None, by_level / (step * high) + ctx.decay, None, None


class ActivationClip(ActivationStep):
    """Rounds activations (N, ...) without values below zero to codes that end at a learned clipping level.

    `decay` times the level is added to its gradient (section 3: an L2 penalty, so that the level comes down where
    nothing holds it up). As in `Step`, what is learned is the logarithm of its growth.
    """

    def __init__(self, code: ActivationCode, *, ceiling: float, decay: float) -> None:
        super().__init__(code, learns=True, ceiling=ceiling)
        self._high, self._decay = code.top, decay

    def forward(self, x: Tensor) -> Tensor:
        """What the activations' codes mean."""
        shape = [1] * x.dim()
        made: Tensor = _Clipped.apply(  # type: ignore[no-untyped-call]
            x, self.now().view(shape), self.growth.view(shape), self._high, self._decay
        )
        return made
