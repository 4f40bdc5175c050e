"""What torch makes of a program.

Loading a program can execute what is in it. So this is for files that this process's own job has written: nothing that
was uploaded is ever loaded so.
"""

from pathlib import Path

import torch

from compressor.exports.torch_module import running, version
from compressor.format import Run

__all__ = ["int8_macs_fraction", "open_file", "version"]


def open_file(path: Path, threads: int) -> Run:
    """The program, run operator by operator: to compile it would take a C++ compiler, which not every host has."""
    torch.set_num_threads(threads)
    return running(torch.export.load(path).module())


def int8_macs_fraction(path: Path) -> None:
    """Nothing that could be counted: what is stored as codes is multiplied as floats."""
