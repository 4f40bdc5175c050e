"""Fake quantization whose step is learned with the weights (Esser et al. 2020, Learned Step Size Quantization).

What is learned is the logarithm of how far a step has grown, so that it stays positive, and an optimizer that moves
everything equally far moves a small step as far in proportion as a large one. Its gradient is the paper's divided by
the step: to first order, plain gradient descent then moves the step itself as the paper does.
"""

from typing import Any

import torch
from torch import Tensor, nn

from compressor.quantization.integers import WeightCodes
from compressor.quantization.plan import ActivationCode

#: Natural logarithm of how far a step can grow or shrink. Where it has been nearly nothing, its gradient is too large.
_REACH = 4.0
_BYTE = 8


class _Rounded(torch.autograd.Function):
    """Values as their codes mean them, with gradients that go straight through rounding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, growth: Tensor, low: int, high: int, slope: float) -> Tensor:
        del growth  # Its gradient stands for that of the step.
        steps = x / step
        ctx.save_for_backward(steps, step)
        ctx.ends, ctx.slope = (low, high), slope
        return steps.round().clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (steps, step), (low, high), gradient = ctx.saved_tensors, ctx.ends, gradients[0]
        # Equation 5: what comes from above where the value is within the codes, and nothing beyond.
        inside = torch.ops.aten.hardtanh_backward(gradient, steps, low, high)
        # Equation 3: what rounding adds within the range, and the end of the range beyond it.
        by_step = steps.round().clamp_(low, high).mul_(gradient).addcmul_(inside, steps, value=-1)
        return inside, None, by_step.sum_to_size(step.shape) * (ctx.slope / step), None, None, None


class Step(nn.Module):
    """A step for each slice of numbers, or one for all, that is learned."""

    start: Tensor

    def __init__(self, start: Tensor, *, learns: bool = True) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())
        #: Natural logarithm of the step in units of that at the start.
        self.growth = nn.Parameter(torch.zeros_like(start), requires_grad=learns)

    def now(self) -> Tensor:
        """The step, of the shape that it was given in."""
        return self.start * self.growth.detach().clamp(-_REACH, _REACH).exp()

    def rounded(self, x: Tensor, *, low: int, high: int, sharing: int) -> Tensor:
        """The nearest of `low` to `high` steps to each value of `x`, along whose first axis steps differ if they do.

        `sharing` is how many numbers of the network, or of one image's activations, have the same step: its gradient is
        divided by `sqrt(sharing * high)`, so that steps learn about as fast as weights (section 2.2).
        """
        shape = (-1, *[1] * (x.dim() - 1))
        slope = (sharing * max(1, high)) ** -0.5
        made: Tensor = _Rounded.apply(  # type: ignore[no-untyped-call]
            x, self.now().view(shape), self.growth.view(shape), low, high, slope
        )
        return made


class WeightStep(Step):
    """Rounds a weight (out, ...) to codes with a learned step for each output channel, or one for all."""

    def __init__(self, start: Tensor, *, bits: int) -> None:
        super().__init__(start)
        self.bits = bits
        self.high = 2 ** (bits - 1) - 1
        # Of eight bits the lowest code stays unused: turned around, it would not fit int8.
        self.low = -self.high if bits == _BYTE else -self.high - 1

    def forward(self, weight: Tensor) -> Tensor:
        """What the weight's codes mean."""
        return self.rounded(weight, low=self.low, high=self.high, sharing=weight.numel() // self.growth.numel())

    @torch.no_grad()
    def codes(self, weight: Tensor) -> WeightCodes:
        """The weight's codes as they are now."""
        steps = weight / self.now().view(-1, *[1] * (weight.dim() - 1))
        return self.coded(steps.round().clamp(self.low, self.high))

    @torch.no_grad()
    def coded(self, codes: Tensor) -> WeightCodes:
        """These codes (out, ...), whole numbers from `low` to `high`, of the step as it is now."""
        step = self.now()
        whole = codes.to("cpu", torch.int8).contiguous()
        return WeightCodes(whole, step.cpu(), axis=0 if len(step) > 1 else None, bits=self.bits)


class ActivationStep(Step):
    """Rounds activations (N, ...) to codes with a learned step; the code of zero stays what it is."""

    def __init__(self, code: ActivationCode, *, learns: bool, ceiling: float) -> None:
        super().__init__(torch.tensor([code.scale]), learns=learns)
        self._code = code
        self._largest = ceiling / max(1, code.top - code.zero_point)

    def now(self) -> Tensor:
        """The step; saturation does the work of a ReLU6, so that its codes may not reach beyond what it does."""
        return super().now().clamp_max(self._largest)

    def forward(self, x: Tensor) -> Tensor:
        """What the activations' codes mean."""
        low = -self._code.zero_point
        return self.rounded(x, low=low, high=self._code.top + low, sharing=x[0].numel())

    @property
    def code(self) -> ActivationCode:
        """The code as it is now."""
        return self._code.model_copy(update={"scale": self.now().item()})
