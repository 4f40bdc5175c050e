"""Weights as odd multiples of a step: the levels of the papers, their gradients, and their codes."""

import math

import pytest
import torch

from compressor.models.digits import packed_codes
from compressor.quantization.odd import WeightSign, WeightTanh


def test_one_bit_is_a_sign_and_a_mean_magnitude() -> None:
    # Given a weight of two channels, a part of which is pruned
    weight = torch.tensor([[0.5, -1.5, 0.0], [-0.2, -0.2, 0.2]], requires_grad=True)
    # When it is rounded to one bit
    made = WeightSign()(weight)
    made.backward(upstream := torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    # Then it is its sign times the mean magnitude of what is not pruned, and gradients go straight through
    assert torch.allclose(made, torch.tensor([[1.0, -1.0, 0.0], [-0.2, -0.2, 0.2]]))
    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream)
    codes = WeightSign().codes(weight)
    assert codes.codes.tolist() == [[1, -1, 0], [-1, -1, 1]]
    assert torch.equal(codes.dequantized(), made.detach())


def test_levels_are_those_of_the_paper() -> None:
    # Given a weight of one channel
    numbers = [2.0, -0.9, -0.3, -0.01, 0.2, 0.6, 1.4]
    made = WeightTanh(bits=2)(torch.tensor([numbers]))
    # Then each is 2 quantize(tanh w / (2 max |tanh w|) + 1/2) - 1 (Zhou et al. 2016, section 2.3), where `quantize`
    # rounds to thirds (section 2.2), times the largest tanh, which the paper leaves to the layers behind
    largest = math.tanh(2.0)
    expected = [largest * (2 * round(3 * (math.tanh(w) / (2 * largest) + 0.5)) / 3 - 1) for w in numbers]
    assert made.flatten().tolist() == pytest.approx(expected)
    assert {round(3 * level / largest) for level in expected} == {-3, -1, 1, 3}


def test_the_gradient_is_that_of_the_formula_with_rounding_left_out() -> None:
    # Given a weight of three channels / When it is rounded
    weight = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    upstream = torch.linspace(-1, 2, 48).view_as(weight)
    WeightTanh(bits=3)(weight).backward(upstream)
    # Then its gradient is that of the formula without its rounding, the largest tanh of each channel included
    plain = weight.detach().clone().requires_grad_()
    largest = plain.tanh().abs().amax((1, 2, 3), keepdim=True)
    (largest * (2 * (plain.tanh() / (2 * largest) + 0.5) - 1)).backward(upstream)
    assert weight.grad is not None
    assert plain.grad is not None
    assert torch.allclose(weight.grad, plain.grad, atol=1e-6)
    assert torch.allclose(weight.grad, upstream / weight.detach().cosh() ** 2, atol=1e-6)


@pytest.mark.parametrize("bits", range(2, 8))
def test_codes_mean_what_trains_and_take_so_many_bits(bits: int) -> None:
    # Given a weight, a channel of which is pruned and another one in part / When it is coded
    weight = torch.randn(32, 64, 3, 3, generator=torch.Generator().manual_seed(1)) * 0.05
    weight[0], weight[1, :32] = 0, 0
    rounding = WeightTanh(bits=bits)
    codes = rounding.codes(weight)
    # Then codes mean what the network computes with in training, to the bit
    assert torch.equal(codes.dequantized(), rounding(weight))
    # And they are odd, reach to an end in each channel, and only what is pruned has zero
    assert torch.equal(codes.codes == 0, weight == 0)
    assert set(codes.codes[2:].unique().tolist()) <= set(range(1 - 2**bits, 2**bits, 2))
    assert torch.equal(codes.codes[2:].flatten(1).abs().amax(1), torch.full((30,), 2**bits - 1, dtype=torch.int8))
    # And a file holds them in so many bits
    stored, _, _ = packed_codes({"w#codes": codes.codes[2:].contiguous()})
    assert sum(part.nbytes for part in stored.values()) * 8 <= bits * codes.codes[2:].numel()
