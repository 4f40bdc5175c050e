"""The terms of an objective that compare logits."""

from collections.abc import Callable

from torch import Tensor

from compressor.distillation.lesson import Lesson, Measure
from compressor.distillation.logits import correlated, decoupled, standardized
from compressor.training.objectives import kl_divergence, squared_error
from contract.methods.objectives import Dist, Dkd, Kl, LogitTerm, Mse, Standardized

#: From a lesson to the index (N,) of each image's class.
Targets = Callable[[Lesson], Tensor]


def labelled(lesson: Lesson) -> Tensor:
    """The label; of blended images, that with the larger share."""
    return lesson.batch.y if lesson.batch.soft is None else lesson.batch.soft.argmax(1)


def answered(lesson: Lesson) -> Tensor:
    """The class that the teacher finds most likely."""
    return lesson.answers.argmax(1)


def answer_measure(term: LogitTerm, targets: Targets) -> Measure:
    """The distance of logits that the term asks for; `targets` tells the classes that it tells from all others."""

    def measure(lesson: Lesson) -> Tensor:
        student, teacher = _given(lesson, term)
        match term:
            case Kl():
                return kl_divergence(student, teacher, temperature=term.temperature)
            case Mse():
                return squared_error(student, teacher)
            case Dkd():
                return decoupled(
                    student, teacher, targets(lesson), temperature=term.temperature,
                    target_weight=term.target, others_weight=term.others,
                )  # fmt: skip
            case Dist():
                return correlated(student, teacher, temperature=term.temperature, inter=term.inter, intra=term.intra)

    return measure


def _given(lesson: Lesson, term: LogitTerm) -> tuple[Tensor, Tensor]:
    """Both networks' logits as the term takes them."""
    if isinstance(term, Standardized) and term.standardize:
        return standardized(lesson.logits), standardized(lesson.answers)
    return lesson.logits, lesson.answers
