"""A candidate as OpenVINO IR, made of its ONNX file: floats, or integers with the plan's own scales."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compressor.candidate import Candidate
from compressor.exports import onnx, openvino_constants, openvino_swish
from compressor.exports.onnx_zip import graph_file
from compressor.exports.openvino_runtime import openvino
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed

#: No batch is as large, so that what is left of a size after division by it is the size.
_LARGEST_SIZE = 2**31 - 1


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write the graph (`.xml`) and the weights (`.bin`); raises ExportFailed.

    Inputs, outputs and metadata are those of the ONNX file. The same candidate gives the same bytes.
    """
    _refuse_dynamic(candidate)
    with opened(candidate, folder, precision=precision) as model:
        openvino_constants.fold(model)
        openvino_swish.join(model)
        return save(model, candidate, folder, stem)


@contextmanager
def opened(candidate: Candidate, folder: Path, *, precision: OutputPrecision) -> Iterator[Any]:
    """The candidate as OpenVINO's model, whose weights are there as long as the block lasts; raises ExportFailed."""
    with TemporaryDirectory(dir=folder) as name:
        exported = onnx.export(candidate, Path(name, "model.onnx"), precision=precision, passes=())
        with graph_file(exported) as source:
            model = _read(source)
            _hold_sizes(model)
            # What is computed of operators, and what NNCF adds to them, is called after them.
            _name(model)
            yield model


def save(model: Any, candidate: Candidate, folder: Path, stem: str) -> dict[str, Path]:
    """Write OpenVINO's model of a candidate as graph and weights."""
    graph, weights = folder / f"{stem}.xml", folder / f"{stem}.bin"
    _name(model)
    model.set_friendly_name(candidate.architecture.name)
    # Unlike `save_model` this keeps float32 as it is, and tells of no build.
    openvino().serialize(model, graph, weights)
    return {path.name: path for path in (graph, weights)}


def _refuse_dynamic(candidate: Candidate) -> None:
    """OpenVINO reads such layers, but multiplies their codes as floats."""
    if candidate.plan.dynamic:
        layers = ", ".join(sorted(name.rpartition(".")[0] for name in candidate.plan.dynamic))
        raise ExportFailed(
            f"OpenVINO has no integer kernel for layers that quantize their input as it comes: {layers}."
        )


def _read(path: Path) -> Any:
    try:
        return openvino().Core().read_model(path)
    except RuntimeError as error:
        raise ExportFailed(f"The network cannot be written for OpenVINO: {_cause(error)}") from None


def _cause(error: RuntimeError) -> str:
    """The operators that OpenVINO does not convert, without the lines of its sources where it says so."""
    nodes = re.findall(r"ONNX node '<Node\((\w+)\): ([^>]*)>'", str(error))
    summary = re.findall(r"^-- (.*: .*)$", str(error), re.MULTILINE)
    return "; ".join([*summary, *(f"{kind} {name}" for kind, name in nodes)])[:500] or "no reason given"


def _hold_sizes(model: Any) -> None:
    """Have OpenVINO read the size of a batch from the images.

    Left alone, it reads it from the first layer that has it: a convolution, between its sums and its bias. Where that
    has integers, the bias of its first channel is then taken for all of them.
    """
    ops = openvino().opset13
    for user in [user for image in model.inputs for user in image.get_target_inputs()]:
        if user.get_node().get_type_name() == "ShapeOf":
            sizes = user.get_node().output(0)
            users = sizes.get_target_inputs()
            largest = ops.constant(np.array(_LARGEST_SIZE, sizes.get_element_type().to_dtype()))
            for reader in users:
                reader.replace_source_output(ops.floor_mod(sizes, largest).output(0))


def _name(model: Any) -> None:
    """Name by its place what OpenVINO has numbered in the order in which this process happened to make it."""
    numbered = {place: n for place, n in enumerate(model.get_ordered_ops()) if n.get_friendly_name() == n.get_name()}
    taken = {node.get_friendly_name() for node in model.get_ordered_ops()}
    taken -= {node.get_name() for node in numbered.values()}
    for place, node in numbered.items():
        name = next(name for name in (f"{node.get_type_name()}_{n}" for n in count(place)) if name not in taken)
        node.set_friendly_name(name)
        taken.add(name)
