"""A network as OpenVINO IR whose integers NNCF has chosen."""

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compressor.blame import cause
from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.exports import openvino_constants
from compressor.exports.openvino import opened, save
from compressor.exports.openvino_runtime import openvino
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed
from contract.methods.quantize import Processor

#: Images are decoded and normalized so many at a time.
_BATCH = 32
#: The operators that multiply activations with weights.
_PRODUCTS = {"Convolution", "GroupConvolution", "MatMul"}


@dataclass(frozen=True)
class Unquantized:
    """What a quantizer starts from that has means of its own."""

    #: The network as it was before any step gave it codes.
    candidate: Candidate
    #: Those by which the step that did has measured ranges.
    images: Images
    #: The processor that its integers are for.
    target: Processor


@cache
def nncf() -> ModuleType:
    """The nncf package. Its calls are reported to Google Analytics, unless what reports them is missing."""
    openvino()
    loggers = logging.getLoggerClass()
    try:
        package = importlib.import_module("nncf")
    finally:
        # Whoever imports it makes every logger that comes later one of NNCF's.
        logging.setLoggerClass(loggers)
    package.set_log_level(logging.ERROR)
    return package


def version() -> str:
    """The quantizer and its version."""
    return f"nncf {nncf().__version__}"


def write(unquantized: Unquantized, folder: Path, stem: str, *, integers: frozenset[str]) -> dict[str, Path]:
    """Have NNCF quantize the network, and write the graph (`.xml`) and the weights (`.bin`); raises ExportFailed.

    Layers whose weights are not among `integers` stay float. Otherwise NNCF goes by its own defaults, which are those
    for transformers where activations are multiplied with each other. Inputs, outputs and metadata are those of
    `openvino.write`, and the same network gives the same bytes.
    """
    candidate = unquantized.candidate
    with opened(candidate, folder, precision=OutputPrecision.FLOAT32) as model:
        left = _left_float(model, {n: w for n, w in candidate.module.named_parameters() if n not in integers})
        # Weights that are still to be brought into shape are none to NNCF.
        openvino_constants.fold(model)
        return save(_quantized(model, unquantized, left), candidate, folder, stem)


def _quantized(model: Any, unquantized: Unquantized, left: list[str]) -> Any:
    package, images = nncf(), unquantized.images
    # Without VNNI two products are added in 16 bits, which weights of eight may not fit.
    overflow = package.OverflowFix.ENABLE if unquantized.target == "x86-avx2" else package.OverflowFix.DISABLE
    try:
        # Its progress bars are for a terminal.
        with redirect_stdout(StringIO()):
            return package.quantize(
                model,
                package.Dataset(_Singles(images, model.input().any_name)),
                subset_size=len(images),
                model_type=package.ModelType.TRANSFORMER if _attends(model) else None,
                ignored_scope=package.IgnoredScope(names=left),
                advanced_parameters=package.AdvancedQuantizationParameters(overflow_fix=overflow),
            )
    # It lets through whatever its many parts raise.
    except Exception as error:
        raise ExportFailed(f"NNCF cannot quantize the network: {cause(error)}") from error


@dataclass(frozen=True)
class _Singles:
    """Images one by one, as often as NNCF goes through them."""

    images: Images
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return ({self.name: x[None]} for batch in self.images.batches(_BATCH) for x in batch.x.numpy())


def _left_float(model: Any, weights: Mapping[str, Tensor]) -> list[str]:
    """The names of the products with one of these weights."""
    return [
        node.get_friendly_name()
        for node in _products(model)
        if any(_is_among(constant, weights) for constant in _constants(node))
    ]


def _is_among(constant: Any, weights: Mapping[str, Tensor]) -> bool:
    """Whether a constant is one of the weights: it has kept its name, or its numbers where they were transposed."""
    shape = tuple(constant.get_output_shape(0))
    alike = (weight.detach().T for weight in weights.values() if weight.dim() == 2 and weight.shape[::-1] == shape)
    return constant.get_friendly_name() in weights or any(np.array_equal(constant.data, w.numpy()) for w in alike)


def _attends(model: Any) -> bool:
    """Whether activations are multiplied with each other."""
    return any(node.get_type_name() == "MatMul" and not list(_constants(node)) for node in _products(model))


def _products(model: Any) -> Iterator[Any]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() in _PRODUCTS)


def _constants(node: Any) -> Iterator[Any]:
    """The constants that an operator multiplies, whatever shape they are brought into before."""
    return (made for made in map(openvino_constants.origin, node.input_values()) if made is not None)
