"""A candidate as a program of torch's own operators, which `torch.export.load` reads without us."""

import io
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from compressor.candidate import Candidate
from compressor.exports import float16
from compressor.exports.description import description
from compressor.exports.exporting import cause, quiet, strip
from compressor.quantization.graph import drop_unread, exported
from compressor.quantization.operators import decoded, dequantized, widened
from compressor.quantization.simulate import deployed
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed

ours = torch.ops.modelpress
#: What our operators on weights are made of: whoever loads the file has torch alone.
_MADE_OF = {
    ours.dequantize.default: dequantized,
    ours.decode.default: decoded,
    ours.widen.default: widened,
}


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write the candidate as `.pt2`; raises ExportFailed.

    The program takes (batch, C, H, W) and gives (batch, classes). Preprocessing and class names are extra files. Codes
    of weights take a byte each, and are widened whenever the program runs. The same candidate gives the same bytes.
    """
    _refuse_integers(candidate)
    program = _program(candidate, precision)
    strip(program)
    content = io.BytesIO()
    # A buffer has no name, which the archive would bear.
    torch.export.save(program, content, extra_files=description(candidate))
    path = folder / f"{stem}.pt2"
    path.write_bytes(content.getbuffer())
    return {path.name: path}


def _refuse_integers(candidate: Candidate) -> None:
    if candidate.plan.rounds_activations:
        layers = sorted(name.rpartition(".")[0] for name in candidate.plan.static | candidate.plan.dynamic)
        named = ", ".join(layers[:4]) + (" and others" if len(layers) > 4 else "")
        raise ExportFailed(
            f"Torch's own operators have no integer kernel for layers that quantize their input: {named}. "
            "A torch_export file holds floats, halves and codes of weights."
        )


def _program(candidate: Candidate, precision: OutputPrecision) -> ExportedProgram:
    try:
        if precision is OutputPrecision.FLOAT16:
            return float16.computing(candidate.module, candidate.input_shape)
        module = deployed(candidate)
        if isinstance(module, GraphModule):
            drop_unread(module)
        program = exported(module, candidate.input_shape)
        with quiet():
            return program if candidate.plan.empty else program.run_decompositions(_MADE_OF)
    except ExportFailed:
        raise
    # Torch lets through whatever an operator raises for the shapes that it is tried with.
    except Exception as error:
        raise ExportFailed(f"The network cannot be written for torch.export: {cause(error)}") from error
