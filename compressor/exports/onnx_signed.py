"""Codes of activations as int8, as ARM's kernels want them."""

import numpy as np
import onnx_ir as ir

#: What makes, clips and reads codes of activations. Indices into a codebook are uint8 too, and codes that a layer makes
#: as it runs: those stay.
_OF_ACTIVATIONS = {"QuantizeLinear", "DequantizeLinear", "Clip"}


def make_signed(model: ir.Model) -> None:
    """Let every uint8 code and zero point of an activation be 128 less, as int8: it computes the same numbers."""
    for node in model.graph:
        if node.op_type in _OF_ACTIVATIONS:
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.dtype == ir.DataType.UINT8:
                    _sign(value)


def _sign(codes: ir.Value) -> None:
    codes.dtype = ir.DataType.INT8
    producer = codes.producer()
    if producer is not None and producer.op_type == "Constant":
        producer.attributes["value"] = ir.AttrTensor("value", _less(producer.attributes["value"].as_tensor()))
    elif codes.const_value is not None:
        codes.const_value = _less(codes.const_value)


def _less(codes: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor((codes.numpy().astype(np.int16) - 128).astype(np.int8), name=codes.name)
