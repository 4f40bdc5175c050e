"""Which of a network's classes are meant, and which of the original's a job's network ends with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from compressor.blame import blaming
from compressor.candidate import Candidate
from compressor.data.images import Images
from contract.failures import ClassesMismatch
from contract.methods import Params

_POINTER = "/keep_classes"


def names_of(candidate: Candidate) -> tuple[str, ...]:
    """A name for each class, in the order of the logits: its number where it has none."""
    return candidate.classes or tuple(map(str, range(candidate.num_classes)))


def places_of(wanted: Sequence[str | int], candidate: Candidate) -> tuple[int, ...]:
    """Where the classes that are wanted, by name or by number, stand among the logits.

    Raises `ClassesMismatch` where one is not there, is told twice, or where all of them are wanted.
    """
    names = names_of(candidate)
    places = tuple(_place(one, names) for one in wanted)
    twice = next((names[place] for place, count in Counter(places).items() if count > 1), None)
    if twice is not None:
        raise ClassesMismatch(f"keep_classes tells the class {twice} twice.", pointer=_POINTER)
    if len(places) == len(names):
        raise ClassesMismatch(f"keep_classes keeps all {len(names)} classes that there are.", pointer=_POINTER)
    return places


def _place(wanted: str | int, names: Sequence[str]) -> int:
    if isinstance(wanted, int):
        if wanted < len(names):
            return wanted
        raise ClassesMismatch(f"There is no class {wanted}: they go from 0 to {len(names) - 1}.", pointer=_POINTER)
    if wanted in names:
        return names.index(wanted)
    near = get_close_matches(wanted, names, n=3, cutoff=0.4)
    hint = f"Near to it: {', '.join(near)}." if near else f"There are {', '.join(names[:4])} and others."
    raise ClassesMismatch(f"The model has no class {wanted}. {hint}", pointer=_POINTER)


@dataclass(frozen=True)
class Kept:
    """Some of the original's classes: those that the network tells apart from one step on."""

    #: The index of the step that lets the others go.
    step: int
    #: Among the original's logits, in the order of the network's own.
    places: tuple[int, ...]

    def of(self, images: Images | None) -> Images | None:
        """Images of these classes, numbered as the network numbers them; all where nobody has told their classes.

        Raises `ClassesMismatch` where those that are left are not of two classes at least.
        """
        if images is None or not images.labelled:
            return images
        left = images.of_classes(self.places)
        if len(set(left.labels.tolist())) < 2:
            with blaming(self.step):
                raise ClassesMismatch(
                    "The data has images of fewer than two of the classes that keep_classes keeps.", pointer=_POINTER
                )
        return left


def kept_by(steps: Sequence[Params], original: Candidate) -> Kept | None:
    """What the steps keep of the original's classes; none where they keep all. Raises what `places_of` raises."""
    for index, step in enumerate(steps):
        if step.kept_classes is not None:
            with blaming(index):
                return Kept(index, places_of(step.kept_classes, original))
    return None
