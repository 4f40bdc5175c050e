"""Which of a teacher's classes are the student's."""

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.classes import names_of
from compressor.models.architectures import width_of_logits
from contract.failures import ClassesMismatch


def shared_classes(student: Candidate, teacher: Candidate) -> Tensor | None:
    """The teacher's columns (classes,) for the student's classes, by name; None where they are the same already.

    A teacher's classes without names go by their numbers, as those that `keep_classes` leaves of them do. Raises
    `ClassesMismatch` where the numbers of classes differ and no names say which are which. As many classes without
    names, or with names of their own, are taken to be in the same order.
    """
    width = width_of_logits(teacher.module, teacher.input_shape)
    columns = _by_name(student, teacher, width)
    if columns is not None:
        return None if columns == list(range(width)) else torch.tensor(columns)
    if width != student.num_classes:
        unknown = _unknown(student, teacher)
        raise ClassesMismatch(
            f"The teacher tells {width} classes apart, and the student {student.num_classes}{unknown}."
        )
    return None


def _by_name(student: Candidate, teacher: Candidate, width: int) -> list[int] | None:
    names = names_of(teacher)
    if student.classes is None or len(names) != width:
        return None
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in student.classes] if places.keys() >= set(student.classes) else None


def _unknown(student: Candidate, teacher: Candidate) -> str:
    if student.classes is None or teacher.classes is None:
        return ""
    missing = [name for name in student.classes if name not in teacher.classes]
    return f", of which the teacher does not know {', '.join(missing[:4])}"


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
