"""Which layer gets how many bits, so that all together stay within a budget and answer most like before."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Option:
    """One way to code a layer."""

    bits: int
    #: Bits that the layer then takes, scales and codebook counted.
    size: float
    #: What the answers lose by it, in nats.
    loss: float


@dataclass(frozen=True)
class _Upgrade:
    layer: str
    to: Option
    #: What each further bit of storage saves.
    gain: float


def allotted(options: Mapping[str, tuple[Option, ...]], budget: float) -> dict[str, Option] | None:
    """For each layer one of its options, sizes together at most `budget`; none where even the least do not fit.

    The multiple-choice knapsack, solved along the lower convex hulls of loss over size: from the smallest options on,
    always the upgrade that saves most for its size (Sinha and Zoltners 1979), and past the first that does not fit
    those that still do. What it misses of the optimum is less than one upgrade.
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
    return chosen


def _hull(options: tuple[Option, ...]) -> list[Option]:
    """Options on the lower convex hull, from the smallest one on."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (o.size, o.loss)):
        if hull and option.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _gain(hull[-2], option) >= _gain(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _upgrades(layer: str, hull: list[Option]) -> list[_Upgrade]:
    return [_Upgrade(layer, after, _gain(before, after)) for before, after in pairwise(hull)]


def _gain(before: Option, after: Option) -> float:
    return (before.loss - after.loss) / (after.size - before.size)
