"""Weights rounded to odd multiples of a step, as many below zero as above: signs, and the levels of DoReFa-Net.

They are -n, 2 - n, ..., n - 2 and n steps, where n is 2**bits - 1. The step of an output channel follows from its
weights. What is pruned is zero, and has the code 0 that no other weight has.
"""

from typing import Any

import torch
from torch import Tensor, nn

from compressor.quantization.integers import WeightCodes


class _Straight(torch.autograd.Function):
    """Other values in the place of some, whose gradients are taken for theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor) -> Tensor:
        del ctx, x
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        del ctx
        return gradients[0], None


def _straight(x: Tensor, values: Tensor) -> Tensor:
    made: Tensor = _Straight.apply(x, values)  # type: ignore[no-untyped-call]
    return made


def _codes(codes: Tensor, step: Tensor, *, bits: int) -> WeightCodes:
    return WeightCodes(codes.to("cpu", torch.int8).contiguous(), step.flatten().cpu(), bits=bits)


class WeightSign(nn.Module):
    """Rounds a weight (out, ...) to one bit: its sign, times the mean magnitude of its output channel.

    Rastegari et al. 2016, equation 6, with the gradient of Courbariaux et al. 2015; Zhou et al. 2016, section 2.3, do
    the same with the mean of a whole layer.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """What the weight's codes mean."""
        return _straight(weight, weight.sign() * _size(weight))

    @torch.no_grad()
    def codes(self, weight: Tensor) -> WeightCodes:
        """The weight's codes as they are now."""
        return _codes(weight.sign(), _size(weight), bits=1)


def _size(weight: Tensor) -> Tensor:
    """The mean magnitude of each output channel, over what is not zero; (out, 1, ...)."""
    sizes, axes = weight.detach().abs(), tuple(range(1, weight.dim()))
    found = sizes.sum(axes, keepdim=True) / (sizes > 0).sum(axes, keepdim=True).clamp_min(1)
    return torch.where(found > 0, found, torch.ones_like(found))


class WeightTanh(nn.Module):
    """Rounds the tanh of a weight (out, ...) to codes that span its output channel (Zhou et al. 2016, section 2.3).

    The paper divides by the largest tanh of a whole layer and leaves the weight so; here it is that of a channel, and
    is multiplied with again, so that a trained network begins near to what it was. But for rounding, what comes of it
    is the tanh itself, and so is the gradient.
    """

    def __init__(self, *, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """What the weight's codes mean."""
        bent = weight.tanh()
        codes, step = self._rounded(bent.detach())
        return _straight(bent, codes * step)

    @torch.no_grad()
    def codes(self, weight: Tensor) -> WeightCodes:
        """The weight's codes as they are now."""
        return _codes(*self._rounded(weight.tanh()), bits=self.bits)

    def _rounded(self, bent: Tensor) -> tuple[Tensor, Tensor]:
        """Odd numbers up to 2**bits - 1, and the step (out, 1, ...) that they are multiples of."""
        top, largest = 2**self.bits - 1, bent.abs().amax(tuple(range(1, bent.dim())), keepdim=True)
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        codes = 2 * torch.round(top * (bent / (2 * largest) + 0.5)) - top
        return codes * (bent != 0), largest / top
