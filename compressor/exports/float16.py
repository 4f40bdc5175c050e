"""A candidate in float16: as a network that computes so, and as parameters that are stored so."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from compressor.candidate import Candidate
from compressor.quantization.graph import aten, exported
from compressor.quantization.halves import halves_of
from compressor.quantization.plan import QuantizationPlan
from compressor.quantization.selection import replace_weights
from contract.failures import ExportFailed
from contract.methods.cast import HalfType

_LARGEST, _SMALLEST = torch.finfo(torch.float16).max, 2.0**-24
#: Operators by which networks keep divisors from becoming zero. Those of normalizations are added in float32.
_BOUNDS = {aten.add.Tensor, aten.add_.Tensor, aten.clamp.default, aten.clamp_.default, aten.clamp_min.default}


def computing(module: nn.Module, input_shape: tuple[int, int, int]) -> ExportedProgram:
    """The program of `module` in eval mode that takes and gives float32, and computes in float16.

    Raises ExportFailed where float16 has no number for one of its own.
    """
    _check_range(module)
    network = copy.deepcopy(module).half()
    network.register_forward_pre_hook(lambda _, images: (images[0].half(),))
    network.register_forward_hook(lambda _, __, logits: logits.float())
    program = exported(network, input_shape)
    for node in program.graph.nodes:
        if node.target in _BOUNDS:
            node.args = tuple(_lifted(argument) for argument in node.args)
    return program


def _lifted(bound: Any) -> Any:
    """The least number of float16 in place of one below it, such as 1e-12, which would be zero."""
    return _SMALLEST if isinstance(bound, float) and 0 < bound < _SMALLEST else bound


def stored(candidate: Candidate) -> Candidate:
    """A copy whose plan is to store every parameter in 16 bits; raises ExportFailed as `computing` does."""
    _check_range(candidate.module)
    module = copy.deepcopy(candidate.module)
    halves = {n: halves_of(p, HalfType.FLOAT16) for n, p in module.named_parameters() if p.is_floating_point()}
    replace_weights(module, halves)
    return replace(candidate, module=module, plan=QuantizationPlan(halves))


def _check_range(module: nn.Module) -> None:
    for name, tensor in _tensors(module):
        most = float(tensor[tensor.isfinite()].abs().max()) if tensor.isfinite().any() else 0.0
        if most > _LARGEST:
            raise ExportFailed(f"{name} has values up to {most:.5g}, and float16 ends at {_LARGEST:.5g}.")


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    named = chain(module.named_parameters(), module.named_buffers())
    return ((name, tensor.detach()) for name, tensor in named if tensor.is_floating_point())
