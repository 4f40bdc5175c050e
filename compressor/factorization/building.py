"""Puts factors in the place of layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.factorization.layer import Known
from compressor.factorization.proposals import Proposal
from compressor.factorization.schemes import SCHEMES
from compressor.inputs import Seeing
from compressor.models.edits import Replace, apply_edits


@dataclass(frozen=True)
class Factors:
    """What stands in a layer's place: weights (outputs, channels, rows, columns) and the last layer's bias."""

    weights: tuple[Tensor, ...]
    bias: Tensor | None
    #: Part of the layer's output, in squares, that they give.
    kept: float


def factors(layer: Seeing, known: Known, proposal: Proposal) -> Factors:
    """The factors of one layer, all of about the same size; the bias makes up for the mean of what is lost."""
    scheme = SCHEMES[proposal.scheme]
    weights = scheme.factors(known, proposal.ranks)
    whole = scheme.composed(weights)
    bias = None if layer.bias is None else layer.bias.detach().cpu().double()
    shift = known.bias_shift(whole)
    if shift is not None:
        bias = shift if bias is None else bias + shift
    outward = known.plain(weights[-1])
    return Factors(_balanced((*weights[:-1], outward)), bias, proposal.kept if known.wide else known.kept(whole))


def _balanced(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same product, in which what makes a channel is as large as what takes it up: that trains and rounds best."""
    made = list(weights)
    for i in range(len(made) - 1):
        inward = 1 if made[i + 1].shape[1] == len(made[i]) else 0
        taken = made[i + 1].movedim(inward, 0).flatten(1).norm(dim=1)
        given = made[i].flatten(1).norm(dim=1)
        factor = torch.where((taken > 0) & (given > 0), (taken / given).sqrt(), 1.0)
        made[i] = made[i] * factor.view(-1, 1, 1, 1)
        shape = [1, -1, 1, 1] if inward else [-1, 1, 1, 1]
        made[i + 1] = made[i + 1] / factor.view(shape)
    return tuple(made)


def put(network: nn.Module, chosen: Mapping[str, Proposal], made: Mapping[str, Factors]) -> tuple[Replace, ...]:
    """Put the factors in the places of the layers of these names; the edits by which that is done."""
    edits = tuple(Replace(module=name, parts=proposal.parts) for name, proposal in chosen.items())
    learning = {name: network.get_parameter(f"{name}.weight").requires_grad for name in chosen}
    apply_edits(network, edits)
    for name in chosen:
        _fill(network.get_submodule(name), made[name])
        network.get_submodule(name).requires_grad_(learning[name])
    return edits


@torch.no_grad()
def _fill(sequence: nn.Module, made: Factors) -> None:
    last = len(made.weights) - 1
    for number, weight in enumerate(made.weights):
        parameter = sequence.get_parameter(f"{number}.weight")
        parameter.copy_(weight.reshape(parameter.shape))
    if made.bias is not None:
        sequence.get_parameter(f"{last}.bias").copy_(made.bias)
