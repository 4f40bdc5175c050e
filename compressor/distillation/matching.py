"""Which layer of the student is compared with which of the teacher."""

from collections.abc import Sequence
from difflib import get_close_matches

from compressor.candidate import Candidate
from compressor.distillation.feature import Feature, Pair
from compressor.distillation.taps import features_of
from compressor.distillation.trunk import stage_ends
from contract.failures import NoLayerMatches, UnfitModel


class Side:
    """One of both networks, and what its layers give out."""

    def __init__(self, candidate: Candidate, *, role: str) -> None:
        self._module, self._role = candidate.module, role
        self._features = features_of(candidate.module, candidate.input_shape)

    def named(self, name: str, pointer: str) -> Feature:
        """The layer of this name; raises `NoLayerMatches`, with the nearest names."""
        if name in self._features:
            return self._features[name]
        others = list(self._features)
        near = get_close_matches(name, others, n=4, cutoff=0.4) or others[:4]
        there = name in dict(self._module.named_modules())
        what = f"gives out no features at {name}" if there else f"has no layer {name}"
        raise NoLayerMatches(f"The {self._role} {what}. Near to it: {', '.join(near)}.", pointer=pointer)

    def ends(self) -> list[Feature]:
        """The ends of its stages; raises `UnfitModel` where it has no features but vectors."""
        found = stage_ends(self._module, self._features)
        if not found:
            raise UnfitModel(f"The {self._role} has no features to match by themselves. Name pairs of layers.")
        return found


def matched(student: Side, teacher: Side) -> list[Pair]:
    """The ends of both networks' stages: the last with the last, the others where both are of the same size.

    Sizes are parts of the image's, so that networks with other inputs match. Where a network has one size alone, as
    transformers have, those at the nearest relative depth are paired.
    """
    first, second = student.ends(), teacher.ends()
    if any(len({feature.octave for feature in ends}) == 1 for ends in (first, second)):
        return _by_depth(first, second)
    by_octave = {feature.octave: feature for feature in second[:-1]}
    pairs = [Pair(one, by_octave[one.octave]) for one in first[:-1] if one.octave in by_octave]
    return [*pairs, Pair(first[-1], second[-1])]


def _by_depth(student: Sequence[Feature], teacher: Sequence[Feature]) -> list[Pair]:
    """Each end of the network with fewer of them gets the one of the other that is nearest in depth."""
    count = min(len(student), len(teacher))
    return [
        Pair(student[_nearest(k / count, len(student))], teacher[_nearest(k / count, len(teacher))])
        for k in range(1, count + 1)
    ]


def _nearest(depth: float, ends: int) -> int:
    """The index of the end at this depth, the last of all at 1."""
    return min(range(ends), key=lambda index: abs((index + 1) / ends - depth))
