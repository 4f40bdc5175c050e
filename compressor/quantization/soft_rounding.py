"""Weights that are learned to be rounded up or down (AdaRound, Nagel et al. 2020, arXiv:2004.10568).

A variable for each weight decides through a rectified sigmoid (eq. 23) between the code below and the one above, and a
regularizer (eq. 24) drives it to one of the two.
"""

import torch
from torch import Tensor, nn

from compressor.quantization.integers import WeightCodes
from compressor.quantization.learned import WeightStep

#: Of the rectified sigmoid (section 3.2).
_STRETCH = (-0.1, 1.1)
#: The regularizer's weight beside an error that is 1 for the nearest codes, and its exponent from start to end; a fifth
#: of the steps go without it.
_STRENGTH, _BETA, _WITHOUT = 3.0, (20.0, 2.0), 0.2


def rectified(choice: Tensor) -> Tensor:
    """The rectified sigmoid: from 0, the code below, to 1, the code above."""
    low, high = _STRETCH
    return (choice.sigmoid() * (high - low) + low).clamp(0, 1)


def choice_of(part: Tensor) -> Tensor:
    """The variables at which the rectified sigmoid gives these parts of a step, between 0 and 1."""
    low, high = _STRETCH
    return torch.logit((part.clamp(0.01, 0.99) - low) / (high - low))


def regularizer(up: Tensor, done: float) -> Tensor | float:
    """What it costs that some are neither down nor up once the part `done` of all steps is done."""
    if done < _WITHOUT:
        return 0.0
    start, end = _BETA
    beta = start + (end - start) * (done - _WITHOUT) / (1 - _WITHOUT)
    return _STRENGTH * (1 - (2 * up - 1).abs().pow(beta)).mean()


class SoftRounding(nn.Module):
    """Rounds one weight: in training between the codes below and above, else to those that were chosen.

    Those chosen are the nearest ones until `settle` is called. What is zero has code 0.
    """

    _below: Tensor
    _free: Tensor
    _chosen: Tensor

    def __init__(self, weight: Tensor, step: WeightStep) -> None:
        super().__init__()
        self._step = step.requires_grad_(False)
        steps = weight.detach() / self._scale(weight)
        self.choice = nn.Parameter(choice_of(steps - steps.floor()))
        self.register_buffer("_below", steps.floor())
        self.register_buffer("_free", weight.detach() != 0)
        self.register_buffer("_chosen", self._within(steps.round()))

    def _scale(self, weight: Tensor) -> Tensor:
        return self._step.now().view(-1, *[1] * (weight.dim() - 1))

    def _within(self, codes: Tensor) -> Tensor:
        return codes.clamp(self._step.low, self._step.high)

    def forward(self, weight: Tensor) -> Tensor:
        """What the weight's codes mean; a code in training need not be whole."""
        codes = self._within(self._below + rectified(self.choice) * self._free) if self.training else self._chosen
        return codes * self._scale(weight)

    def up(self) -> Tensor:
        """How far from the code below to the one above each weight that has the choice is, between 0 and 1."""
        return rectified(self.choice)[self._free]

    @torch.no_grad()
    def settle(self) -> None:
        """From now on have the code below or above, whichever is nearer to what was learned."""
        self._chosen.copy_(self._within(self._below + (rectified(self.choice) > 0.5) * self._free))

    def codes(self, weight: Tensor) -> WeightCodes:
        """The codes that were chosen."""
        return self._step.coded(self._chosen.view_as(weight))
