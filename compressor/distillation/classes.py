"""Which of a teacher's classes are the student's."""

import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.models.architectures import width_of_logits
from contract.failures import ClassesMismatch


def shared_classes(student: Candidate, teacher: Candidate) -> Tensor | None:
    """The teacher's columns (classes,) for the student's classes, by name; None where they are the same already.

    Raises `ClassesMismatch` where the numbers of classes differ and no names say which are which. As many classes
    without names, or with names of their own, are taken to be in the same order.
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
    if student.classes is None or teacher.classes is None or len(teacher.classes) != width:
        return None
    places = {name: place for place, name in enumerate(teacher.classes)}
    return [places[name] for name in student.classes] if places.keys() >= set(student.classes) else None


def _unknown(student: Candidate, teacher: Candidate) -> str:
    if student.classes is None or teacher.classes is None:
        return ""
    missing = [name for name in student.classes if name not in teacher.classes]
    return f", of which the teacher does not know {', '.join(missing[:4])}"
