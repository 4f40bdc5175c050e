"""Which layer gets how much of a budget, so that all together lose least."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Option(Generic[T]):
    """One form that a layer can have, such as a number of bits."""

    form: T
    #: What the layer then takes of the budget.
    size: float
    #: What is lost by it; losses of layers add up.
    loss: float


@dataclass(frozen=True)
class _Upgrade(Generic[T]):
    layer: str
    to: Option[T]
    #: What each further unit of size saves.
    gain: float


def allotted(options: Mapping[str, Sequence[Option[T]]], budget: float) -> dict[str, Option[T]] | None:
    """For each layer one of its options, sizes together at most `budget`; none where even the least do not fit.

    The multiple-choice knapsack, solved along the lower convex hulls of loss over size: from the smallest options on,
    always the upgrade that saves most for its size (Sinha and Zoltners 1979), and past the first that does not fit
    those that still do; then, in what room is left, options beside the hulls. What it misses of the optimum is less
    than one upgrade.
    """
    hulls = {layer: _hull(of_layer) for layer, of_layer in options.items()}
    chosen = {layer: hull[0] for layer, hull in hulls.items()}
    room = budget - sum(option.size for option in chosen.values())
    if room < 0:
        return None
    upgrades = sorted((u for layer, hull in hulls.items() for u in _upgrades(layer, hull)), key=lambda u: -u.gain)
    for upgrade in upgrades:
        more = upgrade.to.size - chosen[upgrade.layer].size
        if 0 < more <= room:
            chosen[upgrade.layer] = upgrade.to
            room -= more
    return _filled(options, chosen, room)


def _filled(
    options: Mapping[str, Sequence[Option[T]]], chosen: dict[str, Option[T]], room: float
) -> dict[str, Option[T]]:
    """The same with whatever else fits into the room and saves anything, first what saves most for its size."""
    while True:
        better = [
            _Upgrade(layer, option, _gain(chosen[layer], option))
            for layer, each in options.items()
            for option in each
            if 0 < option.size - chosen[layer].size <= room and option.loss < chosen[layer].loss
        ]
        if not better:
            return chosen
        best = max(better, key=lambda upgrade: upgrade.gain)
        room -= best.to.size - chosen[best.layer].size
        chosen[best.layer] = best.to


def _hull(options: Sequence[Option[T]]) -> list[Option[T]]:
    """Options on the lower convex hull, from the smallest one on."""
    hull: list[Option[T]] = []
    for option in sorted(options, key=lambda o: (o.size, o.loss)):
        if hull and option.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _gain(hull[-2], option) >= _gain(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _upgrades(layer: str, hull: list[Option[T]]) -> list[_Upgrade[T]]:
    return [_Upgrade(layer, after, _gain(before, after)) for before, after in pairwise(hull)]


def _gain(before: Option[T], after: Option[T]) -> float:
    return (before.loss - after.loss) / (after.size - before.size)
