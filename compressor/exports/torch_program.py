"""A candidate as a program that `torch.export.load` reads."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from compressor.blame import cause
from compressor.candidate import Candidate
from compressor.exports import float16
from compressor.exports.description import description
from compressor.exports.exporting import quiet, strip
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


def save(
    candidate: Candidate, path: Path, *, precision: OutputPrecision, spell_out: Callable[[GraphModule], None]
) -> dict[str, Path]:
    """Write the candidate; raises ExportFailed.

    `spell_out` writes what a plan's operators on activations are made of. The program takes (batch, C, H, W) and gives
    (batch, classes). Preprocessing and class names are extra files. The same candidate gives the same bytes.
    """
    program = _program(candidate, precision, spell_out)
    strip(program)
    content = io.BytesIO()
    # A buffer has no name, which the archive would bear.
    torch.export.save(program, content, extra_files=description(candidate))
    path.write_bytes(content.getbuffer())
    return {path.name: path}


def _program(
    candidate: Candidate, precision: OutputPrecision, spell_out: Callable[[GraphModule], None]
) -> ExportedProgram:
    try:
        if precision is OutputPrecision.FLOAT16:
            return float16.computing(candidate.module, candidate.input_shape)
        module = deployed(candidate)
        if isinstance(module, GraphModule):
            spell_out(module)
            drop_unread(module)
        program = exported(module, candidate.input_shape)
        with quiet():
            return program if candidate.plan.empty else program.run_decompositions(_MADE_OF)
    except ExportFailed:
        raise
    # Torch lets through whatever an operator raises for the shapes that it is tried with.
    except Exception as error:
        raise ExportFailed(f"The network cannot be written for torch.export: {cause(error)}") from error
