"""A candidate as an ExecuTorch program that XNNPACK computes: floats, or integers with the plan's own scales."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from compressor.blame import cause
from compressor.candidate import Candidate
from compressor.exports import float16
from compressor.exports.description import description
from compressor.exports.executorch_operators import spell_out
from compressor.exports.executorch_runtime import executorch
from compressor.exports.exporting import quiet, strip
from compressor.quantization.graph import drop_unread, exported
from compressor.quantization.simulate import deployed
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed

ours = torch.ops.modelpress
#: Operators on weights that no kernel of XNNPACK multiplies as they are stored.
_STORED = {ours.dequantize.default, ours.decode.default, ours.widen.default}


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write the candidate as `.pte`; raises ExportFailed.

    The method `forward` takes one image (1, C, H, W) and gives its logits (1, classes): ExecuTorch plans all memory
    ahead. Preprocessing and class names are methods that take nothing. The same candidate gives the same bytes.
    """
    program = _lowered(candidate, precision)
    path = folder / f"{stem}.pte"
    with path.open("wb") as file:
        program.write_to_file(file)
    return {path.name: path}


def _lowered(candidate: Candidate, precision: OutputPrecision) -> Any:
    try:
        program = _for_one_image(_module(candidate, precision), candidate.input_shape)
        strip(program)
        with quiet():
            return _compiled(program, description(candidate))
    except ExportFailed:
        raise
    # ExecuTorch lets through whatever torch, its own passes and XNNPACK's raise.
    except Exception as error:
        raise ExportFailed(f"The network cannot be written for ExecuTorch: {cause(error)}") from error


def _module(candidate: Candidate, precision: OutputPrecision) -> nn.Module:
    if precision is OutputPrecision.FLOAT16:
        return float16.computing(candidate.module, candidate.input_shape).module(check_guards=False)
    module = deployed(candidate)
    if isinstance(module, GraphModule):
        _refuse_stored(module)
        spell_out(module)
    return module


def _refuse_stored(module: GraphModule) -> None:
    """XNNPACK multiplies codes with codes: weights that are codes or halves beside floats would be floats again."""
    stored = [str(node.args[0]) for node in module.graph.nodes if node.target in _STORED]
    if stored:
        layers = sorted({name.rpartition("_")[0] for name in stored})
        named = ", ".join(layers[:4]) + (" and others" if len(layers) > 4 else "")
        raise ExportFailed(
            f"ExecuTorch has no kernel for weights that are stored in fewer bits beside inputs of floats: {named}."
        )


def _for_one_image(module: nn.Module, input_shape: tuple[int, int, int]) -> ExportedProgram:
    graph = exported(module, input_shape).module(check_guards=False)
    assert isinstance(graph, GraphModule)
    # Torch has it read every parameter, for nothing where it has no use for one.
    graph.graph.eliminate_dead_code()
    drop_unread(graph)
    return torch.export.export(graph, (torch.zeros(1, *input_shape),), strict=False)


def _compiled(program: ExportedProgram, said: dict[str, str]) -> Any:
    exir, xnnpack = executorch("exir"), executorch("backends.xnnpack.partition.xnnpack_partitioner")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered = exir.to_edge_transform_and_lower(
            program, partitioner=[xnnpack.XnnpackPartitioner()], constant_methods=said
        )
        return lowered.to_executorch()
