"""A candidate as a program for torch's compiler, the inductor, which makes integer kernels of what a plan codes."""

from functools import partial
from pathlib import Path

from compressor.candidate import Candidate
from compressor.exports import torch_program
from compressor.exports.decomposed import RULES, UINT8, spell_out
from contract.artifact import OutputPrecision


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write the candidate as `.inductor.pt2`, as `torch_program` tells; raises ExportFailed.

    Weights of layers whose activations have codes are int8, and are multiplied so where the program is compiled with
    its weights frozen. Whoever loads a program with codes imports `torch.ao.quantization.fx._decomposed` before.
    """
    spelled = partial(spell_out, ends=UINT8, rules=RULES)
    return torch_program.save(candidate, folder / f"{stem}.inductor.pt2", precision=precision, spell_out=spelled)
