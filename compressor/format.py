"""What a format is: `exports/NAME.py` writes its files, `exports/NAME_runtime.py` runs them as their user would."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # A process that runs a file loads its runtime and nothing else.
    from compressor.candidate import Candidate
    from contract.artifact import OutputPrecision

Floats = NDArray[np.float32]
#: From inputs of shape (N, C, H, W) to logits of shape (N, classes).
Run = Callable[[Floats], Floats]

#: By the end of a file's name, a longer one before what it ends with, as `contract.artifact.ArtifactFormat` calls it.
_NAMES = {
    ".safetensors": "safetensors",
    ".json": "model_json",
    ".onnx": "onnx",
    ".zip": "onnx",
    ".xml": "openvino",
    ".bin": "openvino",
    ".inductor.pt2": "torch_inductor",
    ".pt2": "torch_export",
    ".pte": "executorch",
}


class Write(Protocol):
    """Writes a candidate in one format."""

    def __call__(
        self, candidate: "Candidate", folder: Path, stem: str, *, precision: "OutputPrecision" = ...
    ) -> Mapping[str, Path]:
        """Write the files, named `stem`, into `folder`; raises ExportFailed.

        Gives them by the name under which the runtime wants each; first the one that it is given.
        """
        ...


class Runtime(Protocol):
    """Runs the files of one format; a module."""

    def version(self) -> str:
        """Such as `onnxruntime 1.32.0`."""
        ...

    def open_file(self, path: Path, threads: int) -> Run:
        """What runs the file on the processor."""
        ...

    def int8_macs_fraction(self, path: Path) -> float | None:
        """The part of the multiply-accumulates that is done in integers; null where those are simulated."""
        ...


def name_of(path: Path) -> str:
    """The format that a delivered file is of."""
    for end, name in _NAMES.items():
        if path.name.endswith(end):
            return name
    raise ValueError(f"{path.name} is of no format that is delivered")


def writer(name: str) -> Write:
    """What writes the format with this name."""
    return cast(Write, getattr(_module(name), "write"))  # noqa: B009


def runtime_of(path: Path) -> Runtime:
    """What runs the file."""
    return cast(Runtime, _module(f"{name_of(path)}_runtime"))


def _module(name: str) -> object:
    return importlib.import_module(f"compressor.exports.{name}")
