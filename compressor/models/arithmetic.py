"""A network's multiply-accumulates as terms for images of any size, found by counting it at a few sizes.

Each operation's count at several sizes leaves few maps that it can be for; the next size is the one that tells those
apart best. Whether what is found holds at other sizes is for the caller to try.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, reduce
from math import gcd
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from compressor.measure.counting import attention_in_the_open, evaluating
from contract.cost import CHANNELS, CLASSES, InputShape, Macs, Term

#: Strides, and windows of attention times strides, that a map can be an image's division by.
_PER = (*range(1, 65), 112, 128, 224, 256)
#: A map is at most so many pixels wider or narrower than the image's division, and as many times the divisor.
_MARGIN, _MARGINS = 64, 4
#: So far above the first side the second one is: farther than the largest division, so that constants show as such.
_REACH = 320
#: Others are looked for among so many next ones, and among some farther away.
_NEAR, _STRIDE = 130, 7
#: Counts at so many sizes tell which maps a network has, or it has others.
_MOST = 30
#: Channels and classes of the network that is compared with one of `CHANNELS` and `CLASSES`.
FEWER_CHANNELS, FEWER_CLASSES = 1, 990


class NoSum(Exception):
    """The network's multiply-accumulates are no sum of terms."""


class _Noting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the multiply-accumulates of each operation in the order of the computation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.macs.append(int(count(*args, **(kwargs or {}), out_val=answer)) // 2)
        return answer


def macs_of_each(module: nn.Module, shape: InputShape) -> tuple[int, ...]:
    """Multiply-accumulates of each operation that has some, for one image; the module is on meta."""
    noting = _Noting()
    with evaluating(module), attention_in_the_open(), noting:
        module(torch.zeros(1, *shape, device="meta"))
    return tuple(noting.macs)


def terms_of(module: nn.Module, fewer: nn.Module, size: tuple[int, int], *, step: int | None) -> Macs:
    """The terms of a network on meta for images of this size and larger ones by `step`; where None, of this size alone.

    `fewer` is the same network for `FEWER_CHANNELS` and `FEWER_CLASSES`. Raises `NoSum` where there are no such terms.
    """
    counted = macs_of_each(module, (CHANNELS, *size))
    kinds = _kinds(counted, macs_of_each(fewer, (FEWER_CHANNELS, *size)))
    whole = [macs // kind for macs, kind in zip(counted, kinds, strict=True)]
    maps = _maps(module, counted, size[0], step) if step else [_all().that([0])] * len(kinds)
    parts: dict[int, dict[_Map, int]] = {1: defaultdict(int), CHANNELS: defaultdict(int), CLASSES: defaultdict(int)}
    for kind, candidates, macs in zip(kinds, maps, whole, strict=True):
        one = candidates.simplest(macs, size[0])
        parts[kind][one] += macs // Term(1, *one).at(*size)
    told = {kind: tuple(Term(macs, *one) for one, macs in sorted(part.items())) for kind, part in parts.items()}
    return Macs(per_channel=told[CHANNELS], per_class=told[CLASSES], others=told[1])


def hold(macs: Macs, module: nn.Module, height: int, width: int) -> bool:
    """Whether the terms are the network's multiply-accumulates at this size too."""
    shape = (CHANNELS, height, width)
    return macs.at(shape, CLASSES) == sum(macs_of_each(module, shape))


#: What is added to the side, what it is then divided by, and the power that the positions are taken to.
_Map = tuple[int, int, int]
_CONSTANT: _Map = (0, 1, 0)


def _kinds(counted: Sequence[int], fewer: Sequence[int]) -> list[int]:
    """For each operation what its count grows with: `CHANNELS`, `CLASSES`, or 1 for neither."""
    if len(counted) != len(fewer):
        raise NoSum("the network for fewer classes computes otherwise")
    return [kind_of(many, few) for many, few in zip(counted, fewer, strict=True)]


def kind_of(many: int, few: int) -> int:
    """What a figure grows with that is `few` for fewer channels and classes: `CHANNELS`, `CLASSES`, or 1 for neither.

    Raises `NoSum` where it is something else.
    """
    if many == few:
        return 1
    if many * FEWER_CHANNELS == few * CHANNELS:
        return CHANNELS
    if many * FEWER_CLASSES == few * CLASSES:
        return CLASSES
    raise NoSum(f"{many} became {few} with fewer channels and classes")


@dataclass(frozen=True)
class _Candidates:
    """Maps that an operation may be for, each a place in three arrays of whole numbers."""

    add: Any
    per: Any
    power: Any

    def __len__(self) -> int:
        return len(self.add)

    def positions(self, side: int) -> Any:
        """Of square images, to the power that they are taken to."""
        return np.maximum((side + self.add) // self.per, 0).astype(np.float64) ** (2 * self.power)

    def that(self, fit: Any) -> "_Candidates":
        return _Candidates(self.add[fit], self.per[fit], self.power[fit])

    def simplest(self, macs: int, side: int) -> _Map:
        """The smallest divisor by which so many multiply-accumulates are whole ones for each position."""
        whole = self.that(macs % self.positions(side) == 0)
        if not len(whole):
            raise NoSum(f"{macs} multiply-accumulates are no whole number for each position")
        order = np.lexsort((whole.add, np.abs(whole.add), whole.per, whole.power))
        return int(whole.add[order[0]]), int(whole.per[order[0]]), int(whole.power[order[0]])


@cache
def _all() -> _Candidates:
    found = [_CONSTANT]
    for per in _PER:
        most = _MARGIN + _MARGINS * per
        found += [(add, per, power) for power in (1, 2) for add in range(-most, most + 1)]
    return _Candidates(*np.array(found).T)


def _maps(module: nn.Module, first: tuple[int, ...], side: int, step: int) -> list[_Candidates]:
    """For each operation the maps that it may be for, once it is counted at sizes enough for no other to tell more."""
    counted = {side: first}
    series = _series(counted)
    candidates = dict.fromkeys(series, _all())
    more: int | None = side + _REACH // step * step
    while more is not None:
        if len(counted) == _MOST:
            raise NoSum(f"counts at {_MOST} sizes do not tell what maps there are")
        counted[more] = macs_of_each(module, (CHANNELS, more, more))
        if len(counted[more]) != len(first):
            raise NoSum(f"other operations are done for images of {more} pixels a side")
        before, series = series, _series(counted)
        which = dict(zip(series, before, strict=True))
        candidates = {one: _fitting(one, candidates[old], side, more) for one, old in which.items()}
        more = _most_telling(candidates.values(), side, step, set(counted))
    return [candidates[one] for one in series]


def _series(counted: Mapping[int, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Each operation's counts over the sizes, over what they have in common."""
    return [tuple(macs // max(1, reduce(gcd, each)) for macs in each) for each in zip(*counted.values(), strict=True)]


def _fitting(series: Sequence[int], candidates: _Candidates, first: int, last: int) -> _Candidates:
    """Those of the candidates whose positions at the first side and at the last are as the counts are."""
    before, after = candidates.positions(first), candidates.positions(last)
    fit = (before > 0) & np.isclose(after * series[0], before * series[-1], rtol=1e-12, atol=0)
    if not fit.any():
        raise NoSum(f"{series[0]} and {series[-1]} for images of {first} and {last} pixels a side are those of no map")
    return candidates.that(fit)


def _most_telling(candidates: Iterable[_Candidates], side: int, step: int, done: Set[int]) -> int | None:
    """The side that tells most of the maps that cannot be told apart yet; None where all can be, or no side tells."""
    near, far = range(side, side + _NEAR * step, step), range(side, side + _REACH, _STRIDE * step)
    sides = [other for other in (*near, *far) if other not in done]
    scores = np.zeros(len(sides))
    for one in candidates:
        if len(one) > 1:
            first = one.positions(side)
            scores += [_entropy(one.positions(other) / first) for other in sides]
    return sides[int(scores.argmax())] if sides and scores.max() > 0 else None


def _entropy(values: Any) -> float:
    """How much is known once it is known which of the values it is, where each is as likely."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.diff(ordered) > 1e-9 * ordered[:-1]) + 1
    shares = np.diff([0, *starts, len(ordered)]) / len(ordered)
    return float(-(shares * np.log(shares)).sum())
