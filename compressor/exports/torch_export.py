"""A candidate as a program of torch's own operators, which `torch.export.load` reads without us."""

from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from compressor.candidate import Candidate
from compressor.exports import torch_program
from compressor.quantization.graph import constant, tensor
from compressor.quantization.operators import coded_as_it_comes
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed

ours = torch.ops.modelpress


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write the candidate as `.pt2`, as `torch_program` tells; raises ExportFailed.

    Codes of weights take a byte each: those of layers that quantize their input as it comes are multiplied as integers,
    the others are widened whenever the program runs.
    """
    _refuse_fixed_ranges(candidate)
    return torch_program.save(candidate, folder / f"{stem}.pt2", precision=precision, spell_out=_multiply_integers)


def _refuse_fixed_ranges(candidate: Candidate) -> None:
    if candidate.plan.activations:
        layers = sorted(name.rpartition(".")[0] for name in candidate.plan.static)
        named = ", ".join(layers[:4]) + (" and others" if len(layers) > 4 else "")
        raise ExportFailed(
            f"Torch's own operators have no integer kernel for activations of a fixed range, as at {named}. "
            "A torch_export file holds floats, halves, codes of weights, and layers that quantize what they are given; "
            "ask for onnx or torch_inductor."
        )


def _multiply_integers(module: GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target is ours.dynamic_linear.default:
            x, codes, *rest = node.args
            weight = tensor(module, codes)
            assert weight is not None
            sums = constant(module, f"{codes.target}_sums", weight.sum(0, dtype=torch.float32), before=node)
            node.target, node.args = _product, (x, codes, sums, *rest)
    module.recompile()


def _product(x: Tensor, codes: Tensor, sums: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """What `modelpress::dynamic_linear` computes, by torch's own kernel for int8.

    `sums` float32 (out) are those of the columns of `codes` (in, out): that kernel takes signed codes on both sides, so
    those of `x` go from -128, and what their shift and their zero point add to each sum is subtracted again.
    """
    steps, scale, zero_point = coded_as_it_comes(x)
    products = torch._int_mm((steps - 128).to(torch.int8).flatten(0, -2), codes)
    by_column = weight_scale * scale
    shift = (128 - zero_point) * sums * by_column
    y = torch.addcmul(shift if bias is None else shift + bias, products.to(torch.float32), by_column)
    return y.reshape(*x.shape[:-1], -1)
