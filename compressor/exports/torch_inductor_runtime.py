"""What torch's compiler makes of a program.

Loading a program can execute what is in it. So this is for files that this process's own job has written: nothing that
was uploaded is ever loaded so.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # Registers the operators around coded activations.
from torch import Tensor
from torch.fx import GraphModule, Interpreter
from torch.utils.flop_counter import FlopCounterMode

from compressor.exports import torch_module
from compressor.exports.torch_export_runtime import ALSO_COUNTED, an_image, part_of
from compressor.format import Floats, Run

aten, mkldnn, onednn = torch.ops.aten, torch.ops.mkldnn, torch.ops.onednn
Shape = tuple[int, ...]


@contextmanager
def _compiling() -> Iterator[None]:
    """Integer kernels are taken for weights alone that stay what they are; torch's own warnings are kept to itself.

    Processes beside this one, in which torch would compile, are not the job's to start.
    """
    with warnings.catch_warnings(), torch._inductor.config.patch(freezing=True, compile_threads=1):
        warnings.simplefilter("ignore")
        yield


def version() -> str:
    """The runtime and its version."""
    return f"{torch_module.version()} (inductor)"


def open_file(path: Path, threads: int) -> Run:
    """The program, compiled for single images, and for batches of the size that comes first.

    A batch of another size is taken image by image: to compile costs more than a batch of hundreds.
    """
    torch.set_num_threads(threads)
    program = torch.export.load(path)
    # What is made in inference mode is of another kind for the compiler than what comes later.
    loaded, image = program.module(), an_image(program)
    with _compiling(), torch.inference_mode():
        module = torch.compile(loaded, dynamic=False)
        module(image)
    size: int | None = None

    def run(x: Floats) -> Floats:
        nonlocal size
        first, size = size is None, size or len(x)
        parts = torch.split(torch.from_numpy(x), size if len(x) == size else 1)
        with torch.inference_mode(), _compiling() if first else nullcontext():
            logits: Floats = torch.cat([module(part) for part in parts]).numpy()
        return logits

    return run


def int8_macs_fraction(path: Path) -> float:
    """The part of the multiply-accumulates that the compiler's graph does in integers, counted on one image."""
    counter = FlopCounterMode(display=False, custom_mapping=_COUNTED)
    program = torch.export.load(path)
    with torch.inference_mode(), _compiling():
        # Loading it warns too.
        compile_fx = importlib.import_module("torch._inductor.compile_fx").compile_fx
        module = torch.compile(program.module(), backend=partial(compile_fx, inner_compile=_plainly(counter)))
        module(an_image(program))
    return part_of(counter, _INTEGER)


def _plainly(counter: FlopCounterMode) -> Callable[..., Any]:
    """Runs a graph, when its weights are frozen, operator by operator: this takes no compiler of C++."""

    def compiled(graph: GraphModule, *_: object, **__: object) -> Callable[[list[Tensor]], Any]:
        def run(inputs: list[Tensor]) -> Any:
            with counter:
                return Interpreter(graph).run(*inputs)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    return compiled


def _of_filters(made: Shape, weight: Shape, channels: int) -> int:
    """Two operations for each number of the weight, packed in whatever order, wherever something is made with it."""
    return 2 * prod(made) * prod(weight) // made[channels]


def _of_coded_convolution(*given: Any, out_shape: Shape, **_: object) -> int:
    return _of_filters(out_shape, given[3], 1)


def _of_coded_linear(*given: Any, out_shape: Shape, **_: object) -> int:
    return _of_filters(out_shape, given[3], -1)


def _of_convolution(x: Shape, weight: Shape, *_: object, out_shape: Shape, **__: object) -> int:
    del x
    return _of_filters(out_shape, weight, 1)


def _of_transposed(x: Shape, weight: Shape, *_: object, **__: object) -> int:
    return _of_filters(x, weight, 1)


def _of_linear(x: Shape, weight: Shape, *_: object, out_shape: Shape, **__: object) -> int:
    del x
    return _of_filters(out_shape, weight, -1)


def _of_packed_linear(x: Shape, packed: Shape, weight: Shape, *_: object, out_shape: Shape, **__: object) -> int:
    del x, packed
    return _of_filters(out_shape, weight, -1)


_CODED: dict[Any, Callable[..., int]] = {
    onednn.qconv_pointwise: _of_coded_convolution,
    onednn.qconv2d_pointwise: _of_coded_convolution,
    onednn.qlinear_pointwise: _of_coded_linear,
}
_INTEGER = {*_CODED, aten._int_mm}
_COUNTED: dict[Any, Callable[..., int]] = {
    **ALSO_COUNTED,
    **_CODED,
    mkldnn._convolution_pointwise: _of_convolution,
    mkldnn._convolution_transpose_pointwise: _of_transposed,
    mkldnn._linear_pointwise: _of_linear,
}
if torch._C.has_mkl:
    _COUNTED[torch.ops.mkl._mkl_linear] = _of_packed_linear
