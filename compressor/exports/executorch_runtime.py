"""What ExecuTorch makes of a program."""

import importlib
import json
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from compressor.exports.integer_part import integer_part
from compressor.format import Floats, Run

_BACKEND = "XnnpackBackend"
#: Of what XNNPACK multiplies in integers: codes, and floats that it codes as they come.
_INTEGER = {"xnn_datatype_qint8", "xnn_datatype_qdint8"}
_FILTERED = {"XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d", "XNNFullyConnected"}


@cache
def executorch(module: str) -> Any:
    """One of ExecuTorch's modules, without what they warn of when they are loaded: their own future, and others'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"executorch.{module}")


def version() -> str:
    """The runtime and its version."""
    return f"executorch {metadata.version('executorch')}"


def open_file(path: Path, threads: int) -> Run:
    """The program, which takes a batch image by image."""
    bindings = executorch("extension.pybindings.portable_lib")
    bindings._unsafe_reset_threadpool(threads)
    program = bindings._load_program(str(path))
    forward = program.load_method("forward")

    def run(x: Floats) -> Floats:
        # What a call gives lies where the next one writes.
        logits = [forward([image])[0].numpy().copy() for image in torch.from_numpy(x).unsqueeze(1)]
        return np.concatenate(logits)

    return run


def int8_macs_fraction(path: Path) -> float:
    """The part of the multiply-accumulates that XNNPACK's graphs do in integers, between 0 and 1."""
    return integer_part((product.macs, product.datatype in _INTEGER) for product in products(path))


@dataclass(frozen=True)
class Product:
    """A node of XNNPACK's that multiplies one activation with many numbers."""

    kind: str
    #: Of its activation, such as `xnn_datatype_qint8`.
    datatype: str
    macs: int


def products(path: Path) -> Iterator[Product]:
    """What XNNPACK multiplies to answer one image."""
    for graph in _graphs(path):
        values = {}
        for value in graph["xvalues"]:
            held = value["xvalue_union"]
            tensor = held.get("tensor_value", held)
            values[tensor["id_out"]] = tensor
        for node in graph["xnodes"]:
            yield from _product(node["xnode_union_type"], node["xnode_union"], values)


def _product(kind: str, node: dict[str, int], values: dict[int, dict[str, Any]]) -> Iterator[Product]:
    if kind in _FILTERED:
        activation, weight, made = (values[node[name]] for name in ("input1_id", "filter_id", "output_id"))
        # Channels come last, and each of the weight is used wherever something is made.
        yield Product(kind, activation["datatype"], math.prod(made["dims"][:-1]) * math.prod(weight["dims"]))
    elif kind == "XNNBatchMatrixMultiply":
        activation, made = values[node["input1_id"]], values[node["output_id"]]
        yield Product(kind, activation["datatype"], math.prod(made["dims"]) * activation["dims"][-1])


def _graphs(path: Path) -> Iterator[dict[str, Any]]:
    """XNNPACK's graphs in the program, as JSON."""
    serialize = executorch("exir._serialize")
    program = serialize._deserialize_pte_binary(path.read_bytes()).program
    for delegate in program.execution_plan[0].delegates:
        if delegate.id == _BACKEND:
            yield _graph(program.backend_delegate_data[delegate.processed.index].data)


def _graph(payload: bytes) -> dict[str, Any]:
    flatbuffer = executorch("exir._serialize._flatbuffer")
    header = executorch("backends.xnnpack.serialization.xnnpack_graph_serialize").XNNHeader
    where = header.from_bytes(payload[: header.EXPECTED_LENGTH])
    with TemporaryDirectory() as folder:
        schema, content = Path(folder, "schema.fbs"), Path(folder, "graph.bin")
        schema.write_bytes(files("executorch.backends.xnnpack.serialization").joinpath("schema.fbs").read_bytes())
        content.write_bytes(payload[where.flatbuffer_offset :][: where.flatbuffer_size])
        flatbuffer._flatc_decompile(folder, str(schema), str(content), ["--raw-binary"])
        text = Path(folder, "graph.json").read_text()
    # Bounds of activations may be infinite, for which JSON has no number.
    graph: dict[str, Any] = json.loads(re.sub(r": -?inf\b", ": null", text))
    return graph
