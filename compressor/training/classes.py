"""Which of a teacher's classes are the student's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.classes import names_of
from compressor.context import Context
from compressor.models.architectures import width_of_logits
from contract.failures import ClassesMismatch

#: Names of classes that a failure tells at most.
_TOLD = 8


def shared_classes(
    student: Candidate, teacher: Candidate, context: Context, *, kin: bool, pointer: str | None = None
) -> Tensor | None:
    """The teacher's columns (classes,) for the student's classes, by name; None where they are the same already.

    Of a teacher that is `kin`, the same job's network before some of its classes went, those without names go by their
    numbers, as what `keep_classes` leaves of them does. Of any other a number says nothing: a class that somebody has
    named 3 is not the fourth of those that somebody has not named.

    Raises `ClassesMismatch` where the numbers of classes differ and no names say which are which, and where the teacher
    knows some of the student's names and not the others. As many classes without names are taken to be in the same
    order; so are those with none in common, with a notice. `pointer` says where the params name the teacher.
    """
    width = width_of_logits(teacher.module, teacher.input_shape)
    columns = _by_name(student, _names(teacher, kin=kin), width)
    if columns is not None:
        return None if columns == list(range(width)) else torch.tensor(columns)
    unknown = _unknown(student, teacher)
    if width != student.num_classes or 0 < len(unknown) < student.num_classes:
        raise ClassesMismatch(
            f"The teacher tells {width} classes apart, and the student {student.num_classes}{_told(unknown)}.",
            pointer=pointer,
        )
    if unknown:
        context.notice("classes_by_order", _in_order(student, teacher))
    return None


def knows_classes(student: Candidate, teacher: Candidate, *, kin: bool) -> bool:
    """Whether the teacher tells the student's classes apart: all by name, or as many where one of both has no names."""
    width = width_of_logits(teacher.module, teacher.input_shape)
    unnamed = width == student.num_classes and not _unknown(student, teacher)
    return unnamed or _by_name(student, _names(teacher, kin=kin), width) is not None


def _names(teacher: Candidate, *, kin: bool) -> Sequence[str]:
    return names_of(teacher) if kin else teacher.classes or ()


def _by_name(student: Candidate, names: Sequence[str], width: int) -> list[int] | None:
    if student.classes is None or len(names) != width:
        return None
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in student.classes] if places.keys() >= set(student.classes) else None


def _unknown(student: Candidate, teacher: Candidate) -> list[str]:
    """The student's names that are not among the teacher's; none where one of both has no names."""
    if student.classes is None or teacher.classes is None:
        return []
    return [name for name in student.classes if name not in teacher.classes]


def _told(unknown: Sequence[str]) -> str:
    if not unknown:
        return ""
    others = f" and {len(unknown) - _TOLD} others" if len(unknown) > _TOLD else ""
    return f", of which the teacher does not know {', '.join(unknown[:_TOLD])}{others}"


def _in_order(student: Candidate, teacher: Candidate) -> str:
    pairs = [f"{own} as {told}" for own, told in zip(names_of(student), names_of(teacher), strict=False)]
    return (
        "Student and teacher have no name of a class in common, so the classes are taken in order: "
        f"{', '.join(pairs[:_TOLD])}."
    )


def answering_for(columns: Tensor | None, voice: nn.Module) -> nn.Module:
    """The network with these columns of its logits alone; as it is where there are none to choose."""
    return voice if columns is None else nn.Sequential(voice, Chosen(columns)).eval()


class Chosen(nn.Module):
    """Some of the classes that a teacher knows."""

    columns: Tensor

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("columns", columns)

    def forward(self, logits: Tensor) -> Tensor:
        """Of logits (N, classes), the columns that are meant."""
        return logits.index_select(1, self.columns.to(logits.device))
