"""What torch makes of a program.

Loading a program can execute what is in it. So this is for files that this process's own job has written: nothing that
was uploaded is ever loaded so.
"""

from collections.abc import Callable, Mapping
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
from compressor.measure.counting import attention_flops

__all__ = ["ALSO_COUNTED", "an_image", "found_by", "int8_macs_fraction", "open_file", "version"]

aten = torch.ops.aten
Shape = tuple[int, ...]


def open_file(path: Path, threads: int) -> Run:
    """The program, run operator by operator: to compile it would take a C++ compiler, which not every host has."""
    torch.set_num_threads(threads)
    return running(torch.export.load(path).module())


def int8_macs_fraction(path: Path) -> float:
    """The part of the multiply-accumulates that the program does in integers, counted while it answers one image."""
    program = torch.export.load(path)
    # Torch counts two operations for one multiply-accumulate, which leaves their parts as they are.
    counter = FlopCounterMode(display=False, custom_mapping=ALSO_COUNTED)
    with torch.inference_mode(), counter:
        program.module()(an_image(program))
    return integer_part((operations, operator is aten._int_mm) for operator, operations in found_by(counter).items())


def found_by(counter: FlopCounterMode) -> Mapping[Any, int]:
    """Operations by operator; none where nothing is multiplied."""
    found: Mapping[Any, int] = counter.get_flop_counts().get("Global", {})
    return found


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
    aten._int_mm: _of_matrices,
    aten.mkldnn_rnn_layer: _of_recurrence,
    aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
}
