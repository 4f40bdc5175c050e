"""What torch makes of a program.

Loading a program can execute what is in it. So this is for files that this process's own job has written: nothing that
was uploaded is ever loaded so.
"""

from collections.abc import Callable, Set
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils.flop_counter import FlopCounterMode

from compressor.exports.integer_part import integer_part
from compressor.exports.torch_module import running, version
from compressor.format import Run
from compressor.measure.formulas import UNKNOWN_TO_TORCH

__all__ = ["ALSO_COUNTED", "an_image", "int8_macs_fraction", "open_file", "part_of", "version"]

aten = torch.ops.aten
Shape = tuple[int, ...]


def open_file(path: Path, threads: int) -> Run:
    """The program, run operator by operator: to compile it would take a C++ compiler, which not every host has."""
    torch.set_num_threads(threads)
    return running(torch.export.load(path).module())


def int8_macs_fraction(path: Path) -> float:
    """The part of the multiply-accumulates that the program does in integers, counted while it answers one image."""
    program = torch.export.load(path)
    counter = FlopCounterMode(display=False, custom_mapping=ALSO_COUNTED)
    with torch.inference_mode(), counter:
        program.module()(an_image(program))
    return part_of(counter, {aten._int_mm})


def part_of(counter: FlopCounterMode, operators: Set[object]) -> float:
    """The part of what was counted that these operators have done, between 0 and 1."""
    # Torch counts two operations for one multiply-accumulate, which leaves their parts as they are.
    found = counter.get_flop_counts().get("Global", {})
    return integer_part((operations, operator in operators) for operator, operations in found.items())


def an_image(program: ExportedProgram) -> Tensor:
    """What the program takes, black, of shape (1, C, H, W)."""
    image = next(node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    return torch.zeros(1, *image.shape[1:])


def _of_matrices(a: Shape, b: Shape, *_: object, **__: object) -> int:
    return 2 * prod(a) * b[1]


def _of_recurrence(x: Shape, inner: Shape, hidden: Shape, *_: object, **__: object) -> int:
    return 2 * prod(x[:2]) * (prod(inner) + prod(hidden))


#: Operations by the shapes of what an operator is given; torch counts those of other products itself.
ALSO_COUNTED: dict[Any, Callable[..., int]] = {
    **UNKNOWN_TO_TORCH,
    aten._int_mm: _of_matrices,
    aten.mkldnn_rnn_layer: _of_recurrence,
}
