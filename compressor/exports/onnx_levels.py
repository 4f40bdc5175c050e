"""Weights in fewer bits than float32 in an ONNX file: codes, looked up, shifted and scaled; halves, cast.

A runtime computes that once, when it loads the file.
"""

import math
from collections.abc import Sequence

import onnx_ir as ir
from onnx.defs import OpSchema
from onnx_ir.tape import Tape
from onnxscript.values import Op, Opset

_DOMAIN = "modelpress"
_Parameter, _Option = OpSchema.FormalParameter, OpSchema.FormalParameterOption
#: What stands for a weight until the exporter has done its work: codes, levels, and perhaps scale and zero point. Else
#: the exporter would compute small weights at once, and store floats.
DECODE = Op(
    Opset(_DOMAIN, 1),
    "Decode",
    OpSchema(
        "Decode",
        _DOMAIN,
        1,
        inputs=[
            _Parameter("codes", "tensor(uint8)"),
            _Parameter("levels", "tensor(float)"),
            _Parameter("scale", "tensor(float)", param_option=_Option.Optional),
            _Parameter("zero", "tensor(float)", param_option=_Option.Optional),
        ],
        outputs=[_Parameter("weight", "tensor(float)")],
        attributes=[OpSchema.Attribute("shape", OpSchema.AttrType.INTS)],
    ),
)
#: The same for float16 and bfloat16.
WIDEN = Op(
    Opset(_DOMAIN, 1),
    "Widen",
    OpSchema(
        "Widen",
        _DOMAIN,
        1,
        inputs=[_Parameter("half", "T")],
        outputs=[_Parameter("weight", "tensor(float)")],
        type_constraints=[("T", ["tensor(float16)", "tensor(bfloat16)"], "")],
    ),
)
#: The first opset that casts whole numbers of four bits, and how many levels they tell apart.
_FOUR_BIT_OPSET, _FOUR_BITS = 21, 16


def widen(model: ir.Model) -> None:
    """Write every weight that is still one operator as what runtimes know."""
    for node in list(model.graph):
        if node.domain == _DOMAIN:
            _widen(model, node)
    model.opset_imports.pop(_DOMAIN, None)


def _widen(model: ir.Model, node: ir.Node) -> None:
    tape = Tape()
    made = _decoded(model, node, tape) if node.op_type == DECODE.name else _cast(node, tape)
    made.dtype, made.name = ir.DataType.FLOAT, node.outputs[0].name
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], tape.nodes, node.outputs, [made])


def _cast(node: ir.Node, tape: Tape) -> ir.Value:
    (half,) = node.inputs
    assert half is not None
    weight = tape.op("Cast", [half], {"to": ir.DataType.FLOAT})
    weight.shape = half.shape
    return weight


def _decoded(model: ir.Model, node: ir.Node, tape: Tape) -> ir.Value:
    codes, levels, scale, zero = (*node.inputs, None, None)[:4]
    assert codes is not None
    assert levels is not None
    assert levels.shape is not None
    if levels.shape[0] <= _FOUR_BITS:  # type: ignore[operator]
        _narrow(codes)
        model.opset_imports[""] = _FOUR_BIT_OPSET
    shape = node.attributes["shape"].as_ints()
    weight = tape.op("Gather", [levels, tape.op("Cast", [codes], {"to": ir.DataType.INT32})])
    if zero is not None:
        weight = tape.op("Sub", [weight, zero])
    if scale is not None:
        weight = tape.op("Mul", [weight, scale])
    made = _shaped(tape, weight, codes, shape)
    made.shape = ir.Shape(shape)
    return made


def _narrow(codes: ir.Value) -> None:
    """Let codes take four bits; ONNX has no type of fewer that runtimes read."""
    assert codes.const_value is not None
    codes.const_value = ir.tensor(codes.const_value.numpy(), dtype=ir.DataType.UINT4, name=codes.name)
    codes.dtype = ir.DataType.UINT4


def _shaped(tape: Tape, weight: ir.Value, codes: ir.Value, shape: Sequence[int]) -> ir.Value:
    """The weight (channels, groups, columns) in its own shape, without what has filled up the last group."""
    columns = math.prod(shape[1:])
    assert codes.shape is not None
    if math.prod(codes.shape.numpy()[1:]) > columns:
        rows = tape.op("Reshape", [weight, _numbers(tape, shape[0], -1)])
        weight = tape.op("Slice", [rows, _numbers(tape, 0), _numbers(tape, columns), _numbers(tape, 1)])
    return tape.op("Reshape", [weight, _numbers(tape, *shape)])


def _numbers(tape: Tape, *numbers: int) -> ir.Value:
    return tape.op("Constant", [], {"value": ir.tensor(numbers, dtype=ir.DataType.INT64)})
