"""Layers put back to float until quantization costs no more than a limit.

Layers are ranked by what each does alone to the answers, and the first so many of the ranking stay float: the fewest
with which the limit holds, found by bisection. It takes a run for each layer and a few trials, not a trial for each
set of layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compressor.measure.fidelity import divergence
from compressor.quantization.drafting import Draft, Drafting
from contract.failures import LimitUnmet

#: Takes the done fraction of the search and a phase.
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Ranked:
    """A weight, and how far the answers move when it alone is quantized: KL to the float ones, in nats."""

    parameter: str
    kl: float

    @property
    def layer(self) -> str:
        """The module that has the weight."""
        return self.parameter.rpartition(".")[0]


@dataclass(frozen=True)
class Held:
    """The plan with which the limit holds."""

    draft: Draft
    #: What was measured of it; none where there is no limit.
    cost: float | None = None
    #: All weights that were to be quantized, from the one that moves the answers most; empty where none had to go.
    ranking: tuple[Ranked, ...] = ()
    #: How many of the ranking, from its start, stay float.
    put_back: int = 0


def held(drafting: Drafting, names: Sequence[str], cost: Callable[[Draft], float], *, limit: float, tell: Tell) -> Held:
    """Quantize as many of these weights as cost no more than the limit. Raises `LimitUnmet` where none does."""
    tell(0.0, "trying all layers")
    whole = Held(drafting.draft(names))
    whole = replace(whole, cost=cost(whole.draft))
    if whole.cost is None or whole.cost <= limit:
        return whole
    ranking = ranked(drafting, names, tell=tell)
    unmet, best = 0, Held(whole.draft, whole.cost, ranking, len(names))
    while best.put_back - unmet > 1:
        middle = (unmet + best.put_back) // 2
        tell(1.0, f"trying {middle} of {len(names)} layers in float")
        draft = drafting.draft([one.parameter for one in ranking[middle:]])
        found = cost(draft)
        if found <= limit:
            best = Held(draft, found, ranking, middle)
        else:
            unmet = middle
    if best.put_back == len(names):
        raise LimitUnmet(f"More than {limit:g} is lost even with {ranking[-1].layer} alone quantized.")
    return best


def ranked(drafting: Drafting, names: Sequence[str], *, tell: Tell) -> tuple[Ranked, ...]:
    """Each weight quantized alone; the one that moves the answers most comes first.

    The order rests on the drafting's batch, 32 images at 224 pixels: there is a run for each layer.
    """
    found = []
    for number, name in enumerate(names):
        tell(number / len(names), f"layer {number + 1} of {len(names)} quantized alone")
        logits = drafting.draft([name]).logits
        found.append(Ranked(name, divergence(logits.exact, logits.coded)))
    return tuple(sorted(found, key=lambda one: -one.kl))
