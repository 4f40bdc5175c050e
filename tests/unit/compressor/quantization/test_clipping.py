"""Clipping levels that are learned: the paper's gradients, and what holds a level where it is."""

import pytest
import torch
from torch import Tensor

from compressor.quantization.clipping import ActivationClip
from compressor.quantization.plan import ActivationCode

#: Two bits up to a level of 1.5.
CODE = ActivationCode(scale=0.5, zero_point=0, top=3)
X = torch.tensor([[0.0, 0.2, 0.3, 0.9, 1.4, 1.5, 1.6, 7.0]])
UPSTREAM = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -7.0, 8.0]])


def clip(*, decay: float = 0.0, ceiling: float = torch.inf) -> ActivationClip:
    return ActivationClip(CODE, ceiling=ceiling, decay=decay)


def gradient_of_level(step: ActivationClip, upstream: Tensor = UPSTREAM) -> float:
    """With respect to the level itself, of which `growth` is the logarithm: divided by the level."""
    step(X).backward(upstream)
    assert step.growth.grad is not None
    return float(step.growth.grad) * 1.5


def test_gradients_are_those_of_the_paper() -> None:
    # Given activations below and above a level of 1.5 / When they are rounded to two bits
    x = X.clone().requires_grad_()
    step = clip()
    made = step(x)
    made.backward(UPSTREAM)
    # Then they are clipped, and rounded to thirds of the level
    assert made.flatten().tolist() == [0, 0, 0.5, 1.0, 1.5, 1.5, 1.5, 1.5]
    # And the level's gradient is that of what lies at or above it (Choi et al. 2018, equation 3), and of nothing else
    assert step.growth.grad is not None
    assert float(step.growth.grad) * 1.5 == pytest.approx(6 - 7 + 8)
    # And what lies between zero and the level has its own
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 2, 3, 4, 5, 0, 0, 0]]


def test_the_penalty_pulls_a_level_in_proportion_to_itself() -> None:
    # Given a level of 1.5 / When it is decayed / Then a part of it is added to its gradient
    assert gradient_of_level(clip(decay=0.1)) - gradient_of_level(clip()) == pytest.approx(0.1 * 1.5)


def test_plain_descent_moves_a_level_as_the_paper_does() -> None:
    # Given a level of 1.5 / When plain gradient descent makes a small move
    step = clip(decay=0.1)
    gradient = gradient_of_level(step)
    torch.optim.SGD([step.growth], lr=1e-4).step()
    # Then the level moves by the rate times the gradient
    assert step.code.scale * 3 - 1.5 == pytest.approx(-1e-4 * gradient, rel=1e-2)


def test_a_level_follows_what_it_clips_up_to_what_there_can_be() -> None:
    # Given clipped activations that should be larger / When the level learns
    step = clip(ceiling=6.0)
    learning = torch.optim.SGD(step.parameters(), lr=1.0)
    for _ in range(20):
        learning.zero_grad()
        (step(X) - X).square().sum().backward()
        learning.step()
    # Then it rises, and no higher than a ReLU6 lets through
    assert step.code.scale * 3 == pytest.approx(6.0)
    assert step.code.zero_point == 0
