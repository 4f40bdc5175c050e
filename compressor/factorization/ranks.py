"""Which form each layer gets."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from compressor.allotment import Option, allotted
from compressor.factorization.costs import Cost
from compressor.factorization.proposals import Proposal

Proposals = Mapping[str, Sequence[Proposal]]
#: By the layer's name; layers that stay as they are are not there.
Chosen = dict[str, Proposal]


def with_energy(proposals: Proposals, energy: float) -> Chosen:
    """For each layer the form with the fewest MACs of those that keep this part of the output, in squares."""
    enough = {name: [p for p in each if p.kept >= energy] for name, each in proposals.items()}
    return {name: min(each, key=lambda p: p.cost.macs) for name, each in enough.items() if each}


def within(
    proposals: Proposals, own: Mapping[str, Cost], *, measure: Callable[[Cost], int], budget: float
) -> Chosen | None:
    """The forms with which all layers together stay within a budget and lose least; none where nothing does."""
    options: dict[str, list[Option[Proposal | None]]] = {
        name: [Option(None, measure(own[name]), 0.0), *_options(each, measure)] for name, each in proposals.items()
    }
    found = allotted(options, budget)
    return None if found is None else {name: o.form for name, o in found.items() if o.form is not None}


def _options(proposals: Sequence[Proposal], measure: Callable[[Cost], int]) -> Iterator[Option[Proposal | None]]:
    return (Option(p, measure(p.cost), p.loss) for p in proposals)
