"""What no image changes, computed when a file is written.

OpenVINO reads of an ONNX file how each bias and each filter is brought into shape, operator by operator: half of the
graph of a small network.
"""

import importlib
from typing import Any

import numpy as np

#: OpenVINO's own mark of an operator that is not to be computed before it runs.
_KEEP = "DisableConstantFolding_0"
#: Bytes by which numbers may grow where an operator goes for it.
_SMALL = 4096
#: Operators that bring numbers into another type, shape or order.
_MOVING = {"Convert", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}


def fold(model: Any) -> None:
    """Compute constants from constants, unless they take more room than what they are made of: codes stay codes."""
    kept = [node for node in model.get_ordered_ops() if _takes_room(node)]
    for node in kept:
        node.get_rt_info()[_KEEP] = ""
    passes = importlib.import_module("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    for node in kept:
        del node.get_rt_info()[_KEEP]
    _drop_zeros(model)


def _takes_room(node: Any) -> bool:
    if node.get_type_name() == "Convert" and len(node.get_output_partial_shape(0)):
        return bool(node.get_input_element_type(0).size < node.get_output_element_type(0).size)
    return sum(map(_bytes, node.outputs())) > sum(map(_bytes, node.input_values())) + _SMALL


def _bytes(port: Any) -> int:
    shape = port.get_partial_shape()
    return int(np.prod(shape.to_shape())) * port.get_element_type().size if shape.is_static else 0


def _drop_zeros(model: Any) -> None:
    """Zero points of weights that are zero, which only ONNX Runtime wants to see, are not subtracted."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Subtract":
            weight, zero = map(origin, node.input_values())
            if weight is not None and zero is not None and not zero.data.any():
                for reader in node.output(0).get_target_inputs():
                    reader.replace_source_output(node.input_value(0))


def origin(value: Any) -> Any | None:
    """The constant that is only brought into another type, shape or order, if it is one."""
    node = value.get_node()
    while node.get_type_name() in _MOVING:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None
