"""What OpenVINO makes of a file."""

import importlib
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compressor.exports.integer_part import integer_part
from compressor.format import Run

_INTEGER = {"u8", "i8"}
_MATRIX_PRODUCTS = {"FullyConnected", "MatMul"}
#: By which a session takes as long as it must, however busy the host, and computes float32 in float32.
_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": "1",
    # Where a processor has bfloat16, OpenVINO would take that.
    "INFERENCE_PRECISION_HINT": "f32",
    # A pinned thread waits for whoever else is on its core.
    "ENABLE_CPU_PINNING": False,
}

Shape = tuple[int, ...]


@cache
def openvino() -> ModuleType:
    """The openvino package. Its import is reported to Google Analytics, unless what reports it is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def version() -> str:
    """The runtime and its version, without the build."""
    return f"openvino {openvino().__version__.partition('-')[0]}"


def open_file(path: Path, threads: int) -> Run:
    """A compiled network that answers with the file and the weights beside it.

    For single images it is compiled as a network that takes nothing else, as OpenVINO advises where latency counts: one
    that takes batches of any size asks for every layer's size anew in each run, a third of the time of a small network.
    """
    model = openvino().Core().read_model(path)
    settings = {"INFERENCE_NUM_THREADS": threads}
    alone = _compiled(_for_one(model), settings).create_infer_request()

    @cache
    def for_any() -> Any:
        return _compiled(model, settings).create_infer_request()

    # The input is read where it lies, as by the other runtimes.
    return lambda x: (alone if len(x) == 1 else for_any()).infer(x, share_inputs=True)[0]


def _for_one(model: Any) -> Any:
    """The same network for single images alone."""
    sized = model.clone()
    sized.reshape([1, *list(model.input().partial_shape)[1:]])
    return sized


def _compiled(model: Any | Path, settings: Mapping[str, Any]) -> Any:
    return openvino().Core().compile_model(model, "CPU", {**_SETTINGS, **settings})


def int8_macs_fraction(path: Path) -> float:
    """The part of the multiply-accumulates that OpenVINO's compiled network does in integers, between 0 and 1.

    Counted on the network that has answered one image, since only the runtime knows what it has fused.
    """
    return integer_part((layer.macs, layer.precision in _INTEGER) for layer in layers(path))


@dataclass(frozen=True)
class Layer:
    """One layer of a compiled network, as it answers one image."""

    kind: str
    #: Of what it multiplies, such as `f32` or `u8`.
    precision: str
    inputs: tuple[Shape, ...]
    output: Shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates; zero for layers that do not multiply one activation with many others."""
        if self.kind == "Convolution":
            kernel = self.inputs[1]
            # Where there are groups, they are a dimension of their own before the channels.
            return math.prod(self.output) * math.prod(kernel[len(kernel) - len(self.output) + 1 :])
        if self.kind in _MATRIX_PRODUCTS:
            return math.prod(self.output) * self.inputs[0][-1]
        if self.kind == "RNNSeq":
            batch, sequence, _ = self.inputs[0]
            return batch * sequence * sum(math.prod(weight) for weight in self.inputs[-3:-1])
        return 0


def layers(path: Path) -> Iterator[Layer]:
    """What the compiled network does to answer one image, layer by layer."""
    # Snippets are compiled from several layers and would hide the products of attention.
    compiled = _compiled(path, {"INFERENCE_NUM_THREADS": 1, "SNIPPETS_MODE": "DISABLE"})
    compiled([np.zeros((1, *_lengths(compiled.input(0))[1:]), np.float32)])
    return (_layer(node) for node in compiled.get_runtime_model().get_ordered_ops())


def _lengths(port: Any) -> Shape:
    """The shape at an input or output; 0 where it is free."""
    return tuple(0 if side.is_dynamic else side.get_length() for side in port.get_partial_shape())


def _layer(node: Any) -> Layer:
    kind, precision = (str(node.get_rt_info()[key].astype(str)) for key in ("layerType", "runtimePrecision"))
    outputs = [_lengths(port) for port in node.outputs()]
    return Layer(kind, precision, tuple(_lengths(port) for port in node.inputs()), outputs[0] if outputs else ())
