"""Steps that are learned: the paper's gradients, and what an optimizer makes of them."""

import pytest
import torch
from torch import Tensor

from compressor.quantization.learned import ActivationStep, Step, WeightStep
from compressor.quantization.plan import ActivationCode

X = torch.tensor([-3.0, -1.7, -0.6, -0.2, 0.0, 0.4, 0.9, 1.3, 2.0])


def gradient_of_step(step: Step, rounded: Tensor, weights: Tensor) -> float:
    """That of a sum of rounded values, each times a weight, with respect to the step itself."""
    (rounded * weights).sum().backward()
    assert step.growth.grad is not None
    return float(step.growth.grad) / float(step.now())


def test_gradients_are_those_of_the_paper() -> None:
    # Given values within and beyond the codes -2 to 3 of a step of 0.5, which 9 numbers share
    step, x = Step(torch.tensor([0.5])), X.clone().requires_grad_()
    upstream = torch.linspace(-1, 2, len(X))
    made = step.rounded(x, low=-2, high=3, sharing=9)
    # Then each becomes the nearest code's value
    assert made.tolist() == [-1.0, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5, 1.5]
    # And the step's gradient is that of Esser et al. 2020, equation 3, times 1 / sqrt(N Q_P), here divided by the step
    per_value = [-2, -2, -1 + 1.2, 0 + 0.4, 0, 1 - 0.8, 2 - 1.8, 3 - 2.6, 3]
    expected = sum(float(g) * d for g, d in zip(upstream, per_value, strict=True)) / (9 * 3) ** 0.5
    made.mul(upstream).sum().backward()
    assert step.growth.grad is not None
    assert float(step.growth.grad) * 0.5 == pytest.approx(expected, rel=1e-5)
    # And that of a value is what comes from above where the value is within, and nothing beyond (equation 5)
    inside = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 0])
    assert x.grad is not None
    assert torch.equal(x.grad, upstream * inside)


def test_each_channel_has_a_step_of_its_own() -> None:
    # Given a weight of two channels with steps of their own / When one of them is clipped
    step = WeightStep(torch.tensor([1.0, 0.01]), bits=4)
    weight = torch.tensor([[0.4, 2.7], [0.5, 0.03]])
    codes = step.codes(weight)
    # Then codes are those of the channel's step, mean what the network computes with, and both steps have a gradient
    assert codes.codes.tolist() == [[0, 3], [7, 3]]
    assert torch.equal(codes.dequantized(), step(weight).detach())
    step(weight).sum().backward()
    assert step.growth.grad is not None
    assert step.growth.grad.shape == (2,)
    assert step.growth.grad.all()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_step_stays_positive_whatever_pulls_at_it(optimizer: type[torch.optim.Optimizer]) -> None:
    # Given a step that is pulled towards zero with all force
    step = ActivationStep(ActivationCode(scale=1e-3, zero_point=3), learns=True, ceiling=6.0)
    moving = optimizer(step.parameters(), lr=1.0)  # type: ignore[call-arg]
    for _ in range(20):
        moving.zero_grad()
        (step(X.view(1, -1)) ** 2).sum().backward()
        moving.step()
    # Then it is smaller, and still a step
    assert 0 < step.code.scale < 1e-3
    assert step.code.zero_point == 3


def test_plain_descent_moves_a_step_as_the_paper_does() -> None:
    # Given a step / When plain gradient descent makes a small move
    step, rate = Step(torch.tensor([0.5])), 1e-4
    gradient = gradient_of_step(step, step.rounded(X, low=-2, high=3, sharing=9), torch.ones(len(X))) * 0.5**2
    torch.optim.SGD([step.growth], lr=rate).step()
    # Then the step moves by the rate times the paper's gradient
    assert float(step.now()) - 0.5 == pytest.approx(-rate * gradient, rel=1e-2)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gradients_of_steps_are_scaled_by_how_many_share_them_and_by_their_largest_code(bits: int) -> None:
    # Given a weight of 4 channels and activations of 2 images, every number of which is clipped
    weight, images = torch.full((4, 3, 5, 5), 1e3), torch.full((2, 3, 5, 5), 1e3)
    of_weight = WeightStep(torch.full((4,), 0.5), bits=bits)
    top = 2**bits - 1
    of_images = ActivationStep(ActivationCode(scale=0.5, zero_point=0, top=top), learns=True, ceiling=torch.inf)
    # When the sum of what they are rounded to is made large
    scaled = [gradient_of_step(of_images, of_images(images), torch.ones_like(images))]
    of_weight(weight).sum().backward()
    assert of_weight.growth.grad is not None
    scaled.append(float(of_weight.growth.grad[0]) / 0.5)
    # Then gradients are those of equation 3, the largest code for each number, times 1 / sqrt(N Q_P) of section 2.2,
    # where N counts the weights of a channel and the activations of an image; `growth` has them by the step once more
    channel, high = 3 * 5 * 5, 2 ** (bits - 1) - 1
    expected = [2 * channel * top / (channel * top) ** 0.5, channel * high / (channel * high) ** 0.5]
    assert [gradient * 0.5**2 for gradient in scaled] == pytest.approx(expected, rel=1e-4)
