"""The pairs of layers that a term compares: those that it names, or those that match by themselves."""

from collections.abc import Sequence

from compressor.distillation.feature import Pair
from compressor.distillation.matching import Side, matched
from contract.failures import UnfitModel
from contract.methods.objectives import AnyTerm, Attention, Crd, FeatureTerm, LayerTerm, Rkd, Similarity

#: Objectives of the papers' that look at the last features alone, where no layers are named.
_OF_THE_LAST = (Similarity, Rkd, Crd)


def check_student(student: Side, terms: Sequence[AnyTerm]) -> None:
    """Look for all that terms name in the student; raises `NoLayerMatches`, and `UnfitModel` where nothing matches."""
    for index, term in enumerate(terms):
        if isinstance(term, FeatureTerm) and term.layers is None:
            student.ends()
        elif isinstance(term, FeatureTerm) and term.layers is not None:
            for number, (name, _) in enumerate(term.layers):
                student.named(name, _pointer(index, number, 0))


def pairs_of(term: LayerTerm, index: int, student: Side, teacher: Side) -> list[Pair]:
    """What the term, which stands at this index, compares; raises `NoLayerMatches` and `UnfitModel`."""
    if term.layers is None:
        found = matched(student, teacher)
        pairs = found[-1:] if isinstance(term, _OF_THE_LAST) else [pair for pair in found if _fits(term, pair)]
    else:
        pairs = [
            Pair(student.named(one, _pointer(index, n, 0)), teacher.named(other, _pointer(index, n, 1)))
            for n, (one, other) in enumerate(term.layers)
        ]
    unfit = next((pair for pair in pairs if not _fits(term, pair)), None)
    if unfit is not None or not pairs:
        where = f"{unfit.student.name} and {unfit.teacher.name} share" if unfit else "The networks' stages share"
        raise UnfitModel(f"{where} no more than one place in the image, and attention compares places.")
    return pairs


def _fits(term: LayerTerm, pair: Pair) -> bool:
    return not isinstance(term, Attention) or pair.places > 1


def _pointer(term: int, pair: int, side: int) -> str:
    return f"/objective/{term}/layers/{pair}/{side}"
