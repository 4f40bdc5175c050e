"""Codes of activations as int8, as ARM's kernels want them."""

import numpy as np
import onnx_ir as ir


def make_signed(model: ir.Model) -> None:
    """Let every uint8 code and zero point of a quantized graph be 128 less, as int8: it computes the same numbers."""
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.UINT8:
            value.const_value = _less(value.const_value)
            value.dtype = ir.DataType.INT8
    for node in model.graph:
        attribute = node.attributes.get("value") if node.op_type == "Constant" else None
        if attribute is not None and attribute.as_tensor().dtype == ir.DataType.UINT8:
            node.attributes["value"] = ir.AttrTensor("value", _less(attribute.as_tensor()))
        for made in node.outputs:
            if made.dtype == ir.DataType.UINT8:
                made.dtype = ir.DataType.INT8


def _less(codes: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor((codes.numpy().astype(np.int16) - 128).astype(np.int8), name=codes.name)
