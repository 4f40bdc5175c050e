"""Rounding up or down as it is learned."""

import pytest
import torch

from compressor.quantization.learned import WeightStep
from compressor.quantization.soft_rounding import SoftRounding, choice_of, rectified, regularizer


def test_the_rectified_sigmoid_reaches_both_ends() -> None:
    # Given the formula clip(1.2 sigmoid(v) - 0.1, 0, 1) (Nagel et al. 2020, eq. 23)
    v = torch.linspace(-6, 6, 101)
    # Then ours is that, reaches 0 and 1 for finite v, and begins where a weight lies between its two codes
    assert torch.allclose(rectified(v), (1.2 / (1 + (-v).exp()) - 0.1).clamp(0, 1), atol=1e-6)
    assert (float(rectified(v)[0]), float(rectified(v)[-1])) == (0.0, 1.0)
    parts = torch.tensor([0.1, 0.5, 0.8])
    assert torch.allclose(rectified(choice_of(parts)), parts)


def test_the_regularizer_presses_towards_both_ends_and_harder_to_the_end() -> None:
    # Given what is decided, and what is not / When the regularizer sees it
    decided, open_ = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.5, 0.2])
    # Then what is decided costs nothing, and what is not costs 1 - |2h - 1| ** beta (eq. 24), after a free start
    assert float(regularizer(open_, 0.1)) == 0
    assert float(regularizer(decided, 0.9)) == 0
    assert float(regularizer(open_, 1.0)) == pytest.approx(3 * (1 + 1 - 0.6**2) / 2)
    assert float(regularizer(open_, 0.2)) == pytest.approx(3 * (1 + 1 - 0.6**20) / 2)


def test_a_weight_is_soft_in_training_and_whole_as_it_was_learned() -> None:
    # Given a weight of four bits in steps of a half, a part of which is zero or beyond the last code
    weight = torch.tensor([[0.3, -0.6, 0.0, 9.0]])
    rounding = SoftRounding(weight, WeightStep(torch.tensor([0.5]), bits=4))
    # Then before it has learned it has the nearest codes, and in training means what the weight is, within its range
    assert torch.equal(rounding.eval()(weight), torch.tensor([[0.5, -0.5, 0.0, 3.5]]))
    assert torch.allclose(rounding.train()(weight), torch.tensor([[0.3, -0.6, 0.0, 3.5]]))
    # When all are pulled to the other side
    with torch.no_grad():
        rounding.choice.copy_(torch.tensor([[-9.0, -9.0, 9.0, -9.0]]))
    rounding.settle()
    # Then they lie there, but for zero and the last code; and the codes mean what is computed
    assert rounding.codes(weight).codes.tolist() == [[0, -2, 0, 7]]
    assert torch.equal(rounding.codes(weight).dequantized(), rounding.eval()(weight).detach())
