"""What ONNX Runtime makes of a file."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort

from compressor.exports.integer_part import integer_part
from compressor.exports.onnx_zip import graph_file
from compressor.format import Run

_CONVOLUTIONS = {"Conv", "FusedConv", "QLinearConv", "ConvInteger"}
_RECURRENT = {"LSTM", "GRU"}
_INTEGER = {
    "QLinearConv",
    "ConvInteger",
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
}
_MATRIX_PRODUCTS = (_INTEGER - _CONVOLUTIONS) | {"Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Einsum"}
#: For how long a thread waits awake for the next operator.
_SPIN_MICROSECONDS = "20"

Shape = tuple[int, ...]


def version() -> str:
    """The runtime and its version."""
    return f"onnxruntime {ort.__version__}"


def open_file(path: Path, threads: int) -> Run:
    """A session that answers with the file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Else it says of each operator in float16 that it has no kernel to compute it ahead with.
    options.log_severity_level = 3
    # Threads that sleep between operators take a third more time; those that spin for as long as they do by default
    # take the cores from the other witness, and twenty times the time where the host is busy.
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    with graph_file(path) as graph:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def int8_macs_fraction(path: Path) -> float:
    """The part of the multiply-accumulates that ONNX Runtime's optimized graph does in integers, between 0 and 1.

    Counted while the graph answers one image on the CPU, since only the runtime knows what it has fused.
    """
    return integer_part((run.macs, run.operator in _INTEGER) for run in runs(path))


@dataclass(frozen=True)
class OperatorRun:
    """One operator, run once."""

    operator: str
    inputs: tuple[Shape, ...]
    output: Shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates; zero for operators that do not multiply one activation with many others."""
        if self.operator in _CONVOLUTIONS:
            kernel = next(shape for shape in self.inputs[1:] if len(shape) == len(self.output))
            return math.prod(self.output) * math.prod(kernel[1:])
        if self.operator in _MATRIX_PRODUCTS:
            return math.prod(self.output) * self.inputs[0][-1]
        if self.operator in _RECURRENT:
            sequence, batch, _ = self.inputs[0]
            return sequence * batch * sum(math.prod(shape) for shape in self.inputs[1:3])
        return 0


def runs(path: Path) -> Iterator[OperatorRun]:
    """What the runtime's optimized graph does to answer one image, operator by operator."""
    with TemporaryDirectory() as folder, graph_file(path) as graph:
        for event in json.loads(_profile(graph, Path(folder)).read_bytes()):
            if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
                yield _run(event["args"])


def _profile(graph: Path, folder: Path) -> Path:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "run")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # The last level only changes layouts, and fills up channels with zeros that would be counted.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Weights that a kernel has packed for itself have no shape in the profile any more.
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    session.run(None, {image.name: np.zeros((1, *image.shape[1:]), np.float32)})
    return Path(session.end_profiling())


def _run(args: Mapping[str, Any]) -> OperatorRun:
    """An event's operator and shapes; each input and output stands there as `{type: shape}`."""
    inputs, outputs = (
        tuple(tuple(shape) for tensor in args[key] for shape in tensor.values())
        for key in ("input_type_shape", "output_type_shape")
    )
    return OperatorRun(str(args["op_name"]), inputs, outputs[0] if outputs else ())
