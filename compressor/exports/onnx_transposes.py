"""What keeps ONNX Runtime from a fault of its own."""

import onnx_ir as ir
from onnx_ir.tape import Tape


def hold_transposes(model: ir.Model) -> None:
    """Put a reshaping that changes nothing between a transposition and a product in float16.

    Where the transposition moves the batch, as in torch's attention, ONNX Runtime (1.32) else makes one operator of the
    two, and ends with a segmentation fault while it loads the file.
    """
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "MatMul" else None
        producer = source.producer() if source is not None and source.dtype is ir.DataType.FLOAT16 else None
        if producer is not None and producer.op_type == "Transpose":
            _hold(model, node, producer)


def _hold(model: ir.Model, node: ir.Node, transpose: ir.Node) -> None:
    tape, made = Tape(), transpose.outputs[0]
    # A zero stands for the size that there is.
    sizes = ir.tensor([0] * len(transpose.attributes["perm"].as_ints()), dtype=ir.DataType.INT64)
    held = tape.op("Reshape", [made, tape.op("Constant", [], {"value": sizes})])
    held.shape, held.dtype, held.name = made.shape, ir.DataType.FLOAT16, f"{made.name}_held_{node.name}"
    model.graph.insert_before(node, tape.nodes)
    node.replace_input_with(0, held)
