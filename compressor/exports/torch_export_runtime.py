"""What torch makes of a program.

Loading a program can execute what is in it. So this is for files that this process's own job has written: nothing that
was uploaded is ever loaded so.
"""

from pathlib import Path

import torch

from compressor.format import Floats, Run


def version() -> str:
    """The runtime and its version."""
    return f"torch {torch.__version__}"


def open_file(path: Path, threads: int) -> Run:
    """The program, run operator by operator: to compile it would take a C++ compiler, which not every host has."""
    torch.set_num_threads(threads)
    module = torch.export.load(path).module()

    def run(x: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = module(torch.from_numpy(x)).numpy()
        return logits

    return run


def int8_macs_fraction(path: Path) -> None:
    """Nothing that could be counted: what is stored as codes is multiplied as floats."""
