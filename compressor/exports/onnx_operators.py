"""The quantized operators as the ONNX patterns that ONNX Runtime replaces by integer kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20 as op

from compressor.exports.onnx_levels import DECODE, WIDEN
from compressor.quantization.operators import SIXTH

#: A value in the graph that is being written; onnxscript calls its own class so.
Value = Any


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What writes each of our operators, for `torch.onnx.export(custom_translation_table=...)`."""
    operators = torch.ops.modelpress
    return {
        torch.ops.aten.batch_norm.default: _batch_norm,
        operators.quantize.default: _quantize,
        operators.clip.default: _clip,
        operators.convolution.default: _convolution,
        operators.linear.default: _linear,
        operators.dynamic_linear.default: _dynamic_linear,
        operators.add.default: _add,
        operators.multiply.default: _multiply,
        operators.hard_sigmoid.default: _hard_sigmoid,
        operators.average.default: _average,
        operators.dequantize.default: _dequantize,
        operators.decode.default: _decode,
        operators.widen.default: WIDEN,
    }


def _batch_norm(
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    """In eval mode, in which alone networks are written."""
    del training, momentum, cudnn_enabled
    channels = int(x.shape[1])
    weight = op.Constant(value=ir.tensor(np.ones(channels, np.float32))) if weight is None else weight
    bias = op.Constant(value=ir.tensor(np.zeros(channels, np.float32))) if bias is None else bias
    return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=eps)


def _constant(value: float, kind: ir.DataType) -> Value:
    return op.Constant(value=ir.tensor(value, dtype=kind))


def _quantize(x: Value, scale: float, zero_point: int) -> Value:
    step, zero = _constant(scale, ir.DataType.FLOAT), _constant(zero_point, ir.DataType.UINT8)
    return op.DequantizeLinear(op.QuantizeLinear(x, step, zero), step, zero)


def _clip(x: Value, scale: float, zero_point: int, top: int) -> Value:
    """The codes are clipped, not what they mean, so that the kernel in front still ends with them."""
    step, zero = _constant(scale, ir.DataType.FLOAT), _constant(zero_point, ir.DataType.UINT8)
    codes = op.Clip(x.producer().inputs[0], None, _constant(top, ir.DataType.UINT8))
    return op.DequantizeLinear(codes, step, zero)


def _dequantize(codes: Value, scale: Value, axis: int) -> Value:
    # The zero points are zero, but ONNX Runtime fuses Gemm only where they are written out.
    zeros = np.zeros(codes.shape[axis], dtype=codes.dtype.numpy())
    return op.DequantizeLinear(codes, scale, op.Constant(value=ir.tensor(zeros)), axis=axis)


def _scaled_bias(bias: Value, weight_scale: Value, x_scale: float) -> Value:
    """An int32 bias, whose scale must be the product of the other two for the kernel to take it."""
    return op.DequantizeLinear(bias, op.Mul(weight_scale, _constant(x_scale, ir.DataType.FLOAT)), axis=0)


def _convolution(
    x: Value,
    codes: Value,
    weight_scale: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    x_scale: float,
    scale: float,
    zero_point: int,
) -> Value:
    inputs = [x, _dequantize(codes, weight_scale, 0)]
    if bias is not None:
        inputs.append(_scaled_bias(bias, weight_scale, x_scale))
    result = op.Conv(*inputs, strides=list(stride), pads=[*padding, *padding], dilations=list(dilation), group=groups)
    return _quantize(result, scale, zero_point)


def _linear(x: Value, codes: Value, weight_scale: Value, bias: Value | None, x_scale: float) -> Value:
    weight = _dequantize(codes, weight_scale, 1)
    if bias is None:
        return op.MatMul(x, weight)
    if bias.dtype == ir.DataType.INT32:
        return op.Gemm(x, weight, _scaled_bias(bias, weight_scale, x_scale))
    return op.Add(op.MatMul(x, weight), bias)


def _dynamic_linear(x: Value, codes: Value, weight_scale: Value, bias: Value | None) -> Value:
    code, scale, zero = op.DynamicQuantizeLinear(x)
    sums = op.Cast(op.MatMulInteger(code, codes, zero), to=ir.DataType.FLOAT)
    result = op.Mul(sums, op.Mul(scale, weight_scale))
    return result if bias is None else op.Add(result, bias)


def _add(
    a: Value,
    b: Value,
    a_scale: float,
    a_zero_point: int,
    b_scale: float,
    b_zero_point: int,
    scale: float,
    zero_point: int,
) -> Value:
    del a_scale, a_zero_point, b_scale, b_zero_point  # They stand on the DequantizeLinear of the two inputs.
    return _quantize(op.Add(a, b), scale, zero_point)


def _multiply(
    a: Value,
    b: Value,
    a_scale: float,
    a_zero_point: int,
    b_scale: float,
    b_zero_point: int,
    scale: float,
    zero_point: int,
) -> Value:
    del a_scale, a_zero_point, b_scale, b_zero_point
    return _quantize(op.Mul(a, b), scale, zero_point)


def _hard_sigmoid(x: Value, x_scale: float, x_zero_point: int) -> Value:
    del x_scale, x_zero_point
    zero = _constant(0, ir.DataType.UINT8)
    three = op.DequantizeLinear(_constant(1, ir.DataType.UINT8), _constant(3.0, ir.DataType.FLOAT), zero)
    up_to_six = op.QuantizeLinear(op.Add(x, three), _constant(SIXTH * 6, ir.DataType.FLOAT), zero)
    return op.DequantizeLinear(up_to_six, _constant(SIXTH, ir.DataType.FLOAT), zero)


def _average(x: Value, x_scale: float, scale: float, zero_point: int) -> Value:
    del x_scale  # It stands on the DequantizeLinear of the input.
    return _quantize(op.GlobalAveragePool(x), scale, zero_point)


def _decode(codes: Value, levels: Value, scale: Value | None, zero: Value | None, shape: Sequence[int]) -> Value:
    return DECODE(codes, levels, scale, zero, shape=list(shape))
