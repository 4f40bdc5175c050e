"""What can be made of a layer: schemes and ranks, what they keep and what they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from compressor.factorization.costs import Cost, cost
from compressor.factorization.layer import Known
from compressor.factorization.schemes import SCHEMES, Ranks, schemes_for, usual_for
from compressor.factorization.survey import Layer
from compressor.models.parts import Convolution, Dense, Part
from contract.methods.factorize import Decomposition

#: About how many values are tried of the first of two ranks.
_TRIED = 12


@dataclass(frozen=True)
class Proposal:
    """One form of a layer."""

    scheme: Decomposition
    ranks: Ranks
    full_ranks: Ranks
    #: Part of the output, in squares, that is kept at least.
    kept: float
    #: What the rest costs: nats for each image, or the part itself where that is not known.
    loss: float
    parts: tuple[Part, ...]
    cost: Cost


def of_all_ranks(
    layer: Layer, known: Known, wanted: Literal["auto"] | Decomposition, round_to: int
) -> tuple[Proposal, ...]:
    """Every form with fewer parameters and MACs than the layer has."""
    return tuple(
        proposal
        for scheme in schemes_for(wanted, known)
        for proposal in _proposed(layer, known, scheme, _grid(SCHEMES[scheme].full_ranks(known.weight.shape), round_to))
    )


def of_rank(
    layer: Layer, known: Known, wanted: Literal["auto"] | Decomposition, round_to: int, rank: float
) -> tuple[Proposal, ...]:
    """The form of this rank, or part of the full one, where it has fewer parameters and MACs than the layer."""
    scheme = usual_for(wanted, known)
    full = SCHEMES[scheme].full_ranks(known.weight.shape)
    ranks = tuple(min(int(rank), most) if rank > 1 else _nearest(rank * most, most, round_to) for most in full)
    return tuple(_proposed(layer, known, scheme, [ranks]))


def _nearest(rank: float, most: int, round_to: int) -> int:
    return min(steps(most, round_to), key=lambda step: abs(step - rank))


def steps(most: int, round_to: int) -> list[int]:
    """The ranks that a scheme with a full rank of `most` may have: multiples, and below these powers of two."""
    return [
        *(2**i for i in range(round_to.bit_length()) if 2**i < min(round_to, most + 1)),
        *range(round_to, most + 1, round_to),
    ]


def _grid(full: Ranks, round_to: int) -> list[Ranks]:
    each = [steps(most, round_to) for most in full]
    if len(each) > 1:
        each[0] = each[0][:: -max(1, len(each[0]) // _TRIED)]
    return list(product(*each))


def _proposed(layer: Layer, known: Known, scheme: Decomposition, grid: Sequence[Ranks]) -> Iterator[Proposal]:
    made, own = SCHEMES[scheme], cost([layer.part], layer.shapes)
    forms = {ranks: _parts(layer, known, scheme, ranks) for ranks in grid}
    costs = {ranks: cost(parts, layer.shapes) for ranks, parts in forms.items()}
    paying = [r for r, c in costs.items() if c.macs < own.macs and c.parameters < own.parameters]
    if not paying:
        return
    full, at_stake = made.full_ranks(known.weight.shape), known.at_stake
    for ranks, kept in zip(paying, made.kept(known, paying), strict=True):
        yield Proposal(scheme, ranks, full, kept, at_stake * max(0.0, 1 - kept), forms[ranks], costs[ranks])


def _parts(layer: Layer, known: Known, scheme: Decomposition, ranks: Ranks) -> tuple[Part, ...]:
    bias = layer.part.bias or known.moments is not None
    if isinstance(layer.part, Convolution):
        return SCHEMES[scheme].parts(layer.part.model_copy(update={"bias": bias}), ranks)
    within, width = layer.part.in_features, layer.part.out_features
    return (
        Dense(in_features=within, out_features=ranks[0]),
        Dense(in_features=ranks[0], out_features=width, bias=bias),
    )
