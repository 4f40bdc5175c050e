"""From numbers to codes: the arithmetic of symmetric weights, asymmetric activations and int32 biases."""

import torch
from torch import Tensor

from compressor.quantization.integers import SCALE_OF_NOTHING, WeightCodes
from compressor.quantization.plan import TOP, ActivationCode

#: Activations that move less than this do not move: their codes all mean zero.
_NO_STEP = 2.0**-40
#: The largest code of a bias; float32 holds it with an error of less than one in 2**24.
_LARGEST_BIAS = 2.0**30


def weight_codes(weight: Tensor, *, per_channel: bool, bits: int = 8) -> WeightCodes:
    """Round a weight (out, ...) to symmetric codes, over the range of each output channel or of the whole tensor."""
    top = 2 ** (bits - 1) - 1
    weight = weight.detach().to("cpu", torch.float32)
    largest = weight.abs().flatten(1).amax(1) if per_channel else weight.abs().amax().reshape(1)
    scale = torch.where(largest > 0, largest / top, torch.full_like(largest, SCALE_OF_NOTHING))
    steps = weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
    codes = steps.round().clamp(-top, top).to(torch.int8)
    return WeightCodes(codes, scale, axis=0 if per_channel else None, bits=bits)


def activation_code(low: float, high: float, *, top: int = TOP) -> ActivationCode:
    """The code, up to `top`, of activations between `low` and `high`; zero always has a code of its own."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / top
    scale = torch.tensor(step if step > _NO_STEP else 1.0, dtype=torch.float32).item()
    return ActivationCode(scale=scale, zero_point=max(0, min(top, round(-low / scale))), top=top)


def scaled(weight: WeightCodes, factor: Tensor, bias: Tensor, x_scale: float) -> tuple[WeightCodes, Tensor]:
    """The codes of `weight` times `factor` (out), and int32 codes of `bias` (out) in units of scale and `x_scale`.

    A channel whose scale is so small that its bias would overflow gets a larger one.
    """
    shape = (-1, *[1] * (weight.codes.dim() - 1))
    exact = (weight.scale * factor).abs()
    scale = torch.maximum(exact, (bias.abs() / (x_scale * _LARGEST_BIAS)).clamp_min(SCALE_OF_NOTHING**2))
    codes = weight.codes * (factor.sign() * exact / scale).reshape(shape)
    units = bias.to(torch.float64) / (scale.to(torch.float64) * x_scale)
    codes_and_scale = WeightCodes(codes.round().to(torch.int8), scale, axis=0, bits=weight.bits)
    return codes_and_scale, units.round().to(torch.int32)
