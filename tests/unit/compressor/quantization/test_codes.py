"""Numbers as codes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressor.quantization.codes import activation_code, scaled, weight_codes


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [8, 7])
def test_a_weight_is_off_by_half_a_step_at_most(per_channel: bool, bits: int) -> None:
    # Given a weight whose channels have very different ranges
    weight = torch.randn(6, 3, 3, 3) * torch.logspace(-3, 1, 6).reshape(-1, 1, 1, 1)
    # When it is coded
    codes = weight_codes(weight, per_channel=per_channel, bits=bits)
    # Then no code needs more bits than were given, and no entry is off by more than half a step
    assert int(codes.codes.abs().max()) == 2 ** (bits - 1) - 1
    step = codes.scale.reshape(-1, 1, 1, 1)
    assert bool(((codes.dequantized() - weight).abs() <= step * 0.5001).all())
    assert codes.scale.numel() == (6 if per_channel else 1)


def test_pruned_weights_stay_exactly_zero() -> None:
    # Given a weight of which half is pruned, one channel entirely
    weight = torch.randn(4, 5)
    mask = torch.rand(4, 5) < 0.5
    mask[2] = False
    # When it is coded and read back
    back = weight_codes(weight * mask, per_channel=True).dequantized()
    # Then what was zero is zero, bit by bit
    assert bool((back[~mask] == 0).all())
    assert int(back.count_nonzero()) > 0


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_zero_has_a_code_of_its_own(a: float, b: float) -> None:
    # Given any range, on one side of zero too
    code = activation_code(min(a, b), max(a, b))
    # When zero is coded, then its code lies among the 256 and means zero
    assert 0 <= code.zero_point <= 255
    assert code.scale > 0
    # And both ends of the range are within half a step of a code
    for end in (a, b):
        nearest = max(0, min(255, round(end / code.scale) + code.zero_point))
        assert abs((nearest - code.zero_point) * code.scale - end) <= code.scale * 1.001


def test_a_channel_scaled_to_almost_nothing_keeps_its_bias() -> None:
    # Given a convolution whose batch normalization all but closes a channel, turns one round and closes one entirely
    weight = weight_codes(torch.randn(4, 3, 1, 1), per_channel=True)
    factor, bias = torch.tensor([1.0, -1.0, 1e-12, 0.0]), torch.tensor([0.5, -0.5, 3.0, -2.0])
    # When weight and bias are coded together
    codes, units = scaled(weight, factor, bias, 0.02)
    # Then every bias is still what it was, and the weights are scaled and signed as the factor says
    assert torch.allclose(units.double() * codes.scale.double() * 0.02, bias.double(), rtol=1e-3)
    wanted = weight.dequantized() * factor.reshape(-1, 1, 1, 1)
    assert torch.allclose(codes.dequantized(), wanted, atol=1e-7)
