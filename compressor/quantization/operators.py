"""The arithmetic of a quantized network, written with torch as ONNX Runtime's integer kernels do it.

An activation travels as the float32 value that its uint8 code stands for: `scale * (code - zero_point)`. Products are
summed over whole numbers, which float32 holds exactly up to 2**24, and are scaled and rounded once, in the order in
which the kernels do: one step more or less in an early layer grows from layer to layer, and would let the simulation
and the deployed file disagree where two classes are close.

Each operator becomes the QuantizeLinear / DequantizeLinear pattern that the runtime replaces by one integer kernel
(`compressor.exports.onnx_operators`).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.library import custom_op

_TOP = 255
#: The scale of a hard sigmoid's codes, which span [0, 1].
SIXTH = torch.tensor(1 / _TOP, dtype=torch.float32).item()


def _whole(x: Tensor, scale: float) -> Tensor:
    """The codes of a coded activation, less their zero point."""
    return torch.round(x / scale)


def _saturated(steps: Tensor, scale: float, zero_point: int) -> Tensor:
    """The values of codes after rounding: `steps` is in units of `scale`, zero meaning zero."""
    return torch.round(steps).clamp_(-zero_point, _TOP - zero_point).mul_(scale)


@custom_op("modelpress::quantize", mutates_args=())
def quantize(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """The nearest values to `x`, of any shape, that uint8 codes can stand for."""
    return _saturated(x / scale, scale, zero_point)


@custom_op("modelpress::clip", mutates_args=())
def clip(x: Tensor, scale: float, zero_point: int, top: int) -> Tensor:
    """Coded activations of any shape whose codes end at `top`: eight bits saturate by themselves, fewer do not."""
    return x.clamp(max=(top - zero_point) * scale)


@custom_op("modelpress::convolution", mutates_args=())
def convolution(
    x: Tensor,
    codes: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    x_scale: float,
    scale: float,
    zero_point: int,
) -> Tensor:
    """A two-dimensional convolution of coded activations (N, C, H, W) that gives coded activations.

    `codes` is int8 (out, in / groups, height, width), `weight_scale` float32 (out), `bias` int32 (out) in units
    of `x_scale * weight_scale`. `scale` and `zero_point` are the output's; saturation does the work of a following
    ReLU or ReLU6 whose range they span.
    """
    whole_bias = None if bias is None else bias.to(torch.float32)
    sums = F.conv2d(
        _whole(x, x_scale), codes.to(torch.float32), whole_bias, list(stride), list(padding), list(dilation), groups
    )
    return _saturated(sums.mul_(_multiplier(weight_scale, x_scale, scale)), scale, zero_point)


def _multiplier(weight_scale: Tensor, x_scale: float, scale: float) -> Tensor:
    """What takes a sum of products to the output's steps, in float32; of shape (out, 1, 1)."""
    return (weight_scale * x_scale / scale).reshape(-1, 1, 1)


@custom_op("modelpress::linear", mutates_args=())
def linear(x: Tensor, codes: Tensor, weight_scale: Tensor, bias: Tensor | None, x_scale: float) -> Tensor:
    """A linear layer on coded activations (..., in) that gives float activations (..., out).

    `codes` is int8 (in, out), `weight_scale` float32 (out); `bias` (out) is int32 in units of `x_scale * weight_scale`,
    or float32.
    """
    return _scaled(torch.matmul(_whole(x, x_scale), codes.to(torch.float32)), weight_scale * x_scale, bias)


def _scaled(sums: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return sums * scale
    return sums * scale + bias if bias.is_floating_point() else (sums + bias) * scale


@custom_op("modelpress::dynamic_linear", mutates_args=())
def dynamic_linear(x: Tensor, codes: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer that quantizes its float input (..., in) as it comes, over the range of the whole tensor.

    `codes` is int8 (in, out), `weight_scale` and `bias` float32 (out). The range is that of ONNX's
    DynamicQuantizeLinear: uint8, with zero in it.
    """
    steps, scale, zero_point = coded_as_it_comes(x)
    return _scaled(torch.matmul(steps - zero_point, codes.to(torch.float32)), weight_scale * scale, bias)


def coded_as_it_comes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The codes of `x`, from 0 to 255, over its own range; of that the scale, and the code of zero; all float32."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / _TOP
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round(-low / scale).clamp(0, _TOP)
    return (torch.round(x / scale) + zero_point).clamp(0, _TOP), scale, zero_point


@custom_op("modelpress::add", mutates_args=())
def add(
    a: Tensor,
    b: Tensor,
    a_scale: float,
    a_zero_point: int,
    b_scale: float,
    b_zero_point: int,
    scale: float,
    zero_point: int,
) -> Tensor:
    """The coded sum of two coded activations of one shape."""
    part_a, part_b = _float32(a_scale) / scale, _float32(b_scale) / scale
    fixed = zero_point - _fused(part_a, _float32(a_zero_point), part_b * b_zero_point)
    steps = _fused(_whole(b, b_scale) + b_zero_point, part_b, fixed)
    code = torch.round(_fused(_whole(a, a_scale) + a_zero_point, part_a, steps))
    return _saturated(code - zero_point, scale, zero_point)


def _fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """`a * b + c`, rounded to float32 once, as processors do it in one instruction."""
    return (a.double() * b.to(a.device).double() + c.to(a.device).double()).float()


@custom_op("modelpress::multiply", mutates_args=())
def multiply(
    a: Tensor,
    b: Tensor,
    a_scale: float,
    a_zero_point: int,
    b_scale: float,
    b_zero_point: int,
    scale: float,
    zero_point: int,
) -> Tensor:
    """The coded product of two coded activations, one of which may have sides of one."""
    del a_zero_point, b_zero_point  # The kernel subtracts them before it multiplies.
    ratio = (_float32(a_scale) * b_scale / scale).to(a.device)
    code = torch.round(_whole(a, a_scale) * _whole(b, b_scale) * ratio + zero_point)
    return _saturated(code - zero_point, scale, zero_point)


@custom_op("modelpress::hard_sigmoid", mutates_args=())
def hard_sigmoid(x: Tensor, x_scale: float, x_zero_point: int) -> Tensor:
    """The coded `clamp(x + 3, 0, 6) / 6`, whose scale is one 255th, of coded activations.

    No integer kernel is called so; this is a sum with 3 that saturates at both ends, read with a sixth of its scale.
    """
    part = _float32(x_scale) / _float32(SIXTH * 6)
    fixed = _float32(3.0) / _float32(SIXTH * 6) - part * x_zero_point
    code = torch.round(_fused(_whole(x, x_scale) + x_zero_point, part, fixed))
    return _saturated(code, SIXTH, 0)


def _float32(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float32)


@custom_op("modelpress::average", mutates_args=())
def average(x: Tensor, x_scale: float, scale: float, zero_point: int) -> Tensor:
    """The coded mean (N, C, 1, 1) of each channel of coded activations (N, C, H, W)."""
    per_sum = _float32(x_scale) / (_float32(scale) * (x.shape[2] * x.shape[3]))
    sums = _whole(x, x_scale).sum((2, 3), keepdim=True)
    return _saturated(sums * per_sum.to(x.device), scale, zero_point)


def dequantized(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    """The float32 weight that int8 codes mean; `scale` has one entry for each slice along `axis`."""
    shape = [1] * codes.dim()
    shape[axis] = -1
    return codes.to(torch.float32) * scale.reshape(shape)


def decoded(codes: Tensor, levels: Tensor, scale: Tensor | None, zero: Tensor | None, shape: Sequence[int]) -> Tensor:
    """The float32 weight of this shape that codes of levels mean.

    `codes` is uint8 (channels, groups, columns), the last group filled up; `scale` and `zero` (channels, groups, 1).
    """
    values = levels[codes.long()]
    if zero is not None:
        values = values - zero
    if scale is not None:
        values = values * scale
    return values.flatten(1)[:, : math.prod(shape[1:])].reshape(list(shape)).clone()


def widened(half: Tensor) -> Tensor:
    """The float32 parameter of the same shape that float16 or bfloat16 holds."""
    return half.float()


dequantize = custom_op("modelpress::dequantize", mutates_args=())(dequantized)
decode = custom_op("modelpress::decode", mutates_args=())(decoded)
widen = custom_op("modelpress::widen", mutates_args=())(widened)


@quantize.register_fake
def _(x: Tensor, scale: float, zero_point: int) -> Tensor:
    return torch.empty_like(x)


@clip.register_fake
def _(x: Tensor, scale: float, zero_point: int, top: int) -> Tensor:
    return torch.empty_like(x)


@convolution.register_fake
def _(
    x: Tensor,
    codes: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    x_scale: float,
    scale: float,
    zero_point: int,
) -> Tensor:
    return F.conv2d(x, codes.to(x.dtype), None, list(stride), list(padding), list(dilation), groups)


@linear.register_fake
def _(x: Tensor, codes: Tensor, weight_scale: Tensor, bias: Tensor | None, x_scale: float) -> Tensor:
    return x.new_empty(*x.shape[:-1], codes.shape[1])


@dynamic_linear.register_fake
def _(x: Tensor, codes: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], codes.shape[1])


@add.register_fake
def _(
    a: Tensor,
    b: Tensor,
    a_scale: float,
    a_zero_point: int,
    b_scale: float,
    b_zero_point: int,
    scale: float,
    zero_point: int,
) -> Tensor:
    return torch.empty_like(a)


@multiply.register_fake
def _(
    a: Tensor,
    b: Tensor,
    a_scale: float,
    a_zero_point: int,
    b_scale: float,
    b_zero_point: int,
    scale: float,
    zero_point: int,
) -> Tensor:
    return a * b


@hard_sigmoid.register_fake
def _(x: Tensor, x_scale: float, x_zero_point: int) -> Tensor:
    return torch.empty_like(x)


@average.register_fake
def _(x: Tensor, x_scale: float, scale: float, zero_point: int) -> Tensor:
    return x.new_empty(*x.shape[:2], 1, 1)


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    return codes.new_empty(codes.shape, dtype=torch.float32)


@decode.register_fake
def _(codes: Tensor, levels: Tensor, scale: Tensor | None, zero: Tensor | None, shape: Sequence[int]) -> Tensor:
    return codes.new_empty(list(shape), dtype=torch.float32)


@widen.register_fake
def _(half: Tensor) -> Tensor:
    return half.new_empty(half.shape, dtype=torch.float32)
