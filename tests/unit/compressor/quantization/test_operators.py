"""Our arithmetic against ONNX Runtime's integer kernels, bit by bit."""

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from compressor.quantization import operators

_EVERY_CODE = np.arange(256, dtype=np.uint8)
#: Other processors round sums in another order, and may be one code off where two are equally near.
_SAME_ROUNDING = torch.cpu.get_capabilities().get("avx2", False)


@dataclass(frozen=True)
class _Coded:
    name: str
    scale: np.float32
    zero_point: np.uint8

    def constants(self) -> list[TensorProto]:
        return [
            numpy_helper.from_array(np.asarray(self.scale), f"{self.name}_scale"),
            numpy_helper.from_array(np.asarray(self.zero_point), f"{self.name}_zero_point"),
        ]

    def values(self, codes: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy((codes.astype(np.float32) - self.zero_point) * self.scale)

    @property
    def numbers(self) -> tuple[float, int]:
        return float(self.scale), int(self.zero_point)


def _added_by_runtime(
    a: NDArray[np.uint8], b: NDArray[np.uint8], parts: tuple[_Coded, _Coded, _Coded]
) -> NDArray[np.uint8]:
    names = [name for p in parts for name in (p.name, f"{p.name}_scale", f"{p.name}_zero_point") if name != "y"]
    graph = helper.make_graph(
        [helper.make_node("QLinearAdd", names, ["y"], domain="com.microsoft")],
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, a.shape) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, a.shape)],
        [constant for part in parts for constant in part.constants()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[np.uint8] = session.run(None, {"a": a, "b": b})[0]
    return answer


@pytest.mark.parametrize("seed", range(8))
def test_sums_round_as_the_kernel_does(seed: int) -> None:
    # Given every pair of codes, with scales and zero points drawn by chance
    random = np.random.default_rng(seed)
    a, b, y = (
        _Coded(name, np.float32(random.uniform(0.01, 0.06)), np.uint8(random.integers(0, 256))) for name in "aby"
    )
    codes_a, codes_b = (side.reshape(1, -1) for side in np.meshgrid(_EVERY_CODE, _EVERY_CODE))
    # When the runtime adds the codes, and we what they stand for
    wanted = _added_by_runtime(codes_a, codes_b, (a, b, y))
    found = operators.add(a.values(codes_a), b.values(codes_b), *a.numbers, *b.numbers, *y.numbers)
    # Then all 65,536 sums are the same code
    off = np.abs(np.round(found.numpy() / y.scale) + y.zero_point - wanted.astype(np.float32))
    assert off.max() <= (0 if _SAME_ROUNDING else 1)
    assert len(np.unique(wanted)) > 100
