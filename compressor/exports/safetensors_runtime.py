"""What torch makes of `model.safetensors` and the `model.json` beside it."""

from pathlib import Path

import torch

from compressor.exports.torch_module import running, version
from compressor.format import Run
from compressor.models.files import load_model

__all__ = ["int8_macs_fraction", "open_file", "version"]


def open_file(path: Path, threads: int) -> Run:
    """The network in the file's folder."""
    torch.set_num_threads(threads)
    return running(load_model(path.parent).eval())


def int8_macs_fraction(path: Path) -> None:
    """Nothing that could be counted: integers are simulated in float32."""
