"""What no image changes is computed when a file is written."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from compressor.exports.openvino_constants import fold
from compressor.exports.openvino_runtime import openvino


def model_of(constant: Any) -> Any:
    """A network that adds a constant to its image."""
    ops = openvino().opset13
    image = ops.parameter([1, *list(constant.output(0).get_shape())[1:]], np.float32, name="image")
    return openvino().Model([ops.add(image, constant)], [image], "small")


def kinds(model: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def answer(model: Any) -> Any:
    shape = model.input().get_shape()
    return (
        openvino()
        .Core()
        .compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([np.ones(shape, np.float32)])[0]
    )


def halves() -> Any:
    ops = openvino().opset13
    return ops.convert(ops.constant(np.full((1, 8, 4, 4), 0.5, np.float16)), np.float32)


def repeated() -> Any:
    ops = openvino().opset13
    return ops.tile(ops.constant(np.ones((1, 8, 1, 1), np.float32)), ops.constant(np.array([1, 1, 64, 64])))


def reshaped() -> Any:
    ops = openvino().opset13
    bias = ops.multiply(
        ops.convert(ops.constant(np.arange(8, dtype=np.int32)), np.float32), ops.constant(np.float32(0.5))
    )
    return ops.reshape(bias, ops.constant(np.array([1, 8, 1, 1])), special_zero=False)


def codes(zero: int) -> Any:
    ops = openvino().opset13
    weight = ops.convert(ops.constant(np.arange(8, dtype=np.int8).reshape(1, 8, 1, 1)), np.float32)
    point = ops.reshape(
        ops.convert(ops.constant(np.full(8, zero, np.int8)), np.float32), ops.constant(np.array([1, 8, 1, 1])), False
    )
    return ops.multiply(ops.subtract(weight, point), ops.constant(np.float32(0.25)))


def codes_around_zero() -> Any:
    return codes(0)


def codes_around_three() -> Any:
    return codes(3)


@pytest.mark.parametrize(
    ("constant", "left"),
    [
        (reshaped, set()),
        (halves, {"Convert"}),
        (repeated, {"Tile"}),
        (codes_around_zero, {"Convert", "Multiply"}),
        (codes_around_three, {"Convert", "Subtract", "Multiply"}),
    ],
    ids=["brought into shape", "stored as halves", "repeated", "codes around zero", "codes around another number"],
)
def test_what_takes_less_room_than_its_numbers_stays(constant: Any, left: set[str]) -> None:
    # Given a network that reads a constant, which is made of another
    model = model_of(constant())
    wanted = answer(model.clone())
    # When what no image changes is computed
    fold(model)
    model.validate_nodes_and_infer_types()
    # Then nothing is left of it but what would take more room without
    assert set(kinds(model)) - {"Reshape"} == {"Parameter", "Constant", "Add", "Result"} | left
    # And the network answers as before, and bears no mark
    assert np.array_equal(answer(model), wanted)
    assert not any("Folding" in key for node in model.get_ordered_ops() for key in node.get_rt_info())
