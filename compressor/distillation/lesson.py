"""What is known of one batch when the student is compared with its teacher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from compressor.data.images import Batch
from compressor.distillation.taps import Taps
from compressor.training.answers import Answers


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One batch, and what both networks say to it."""

    batch: Batch
    #: The student's logits, (N, classes).
    logits: Tensor
    #: The teacher's logits for the student's classes, (N, classes).
    answers: Tensor
    #: What layers of the student give out, by name.
    student: Mapping[str, Tensor]
    #: The same of the teacher, without gradients.
    teacher: Mapping[str, Tensor]


#: From a lesson to a scalar.
Measure = Callable[[Lesson], Tensor]


class Lessons(nn.Module):
    """From logits and their batch to what each measure says of them, the teacher being asked once for all."""

    def __init__(self, measures: Mapping[str, Measure], *, answers: Answers, student: Taps, teacher: Taps) -> None:
        super().__init__()
        self._measures, self._student, self._teacher = dict(measures), student, teacher
        # Not the answers themselves: were they a module, its weights would be trained.
        self._ask: Answers = lambda batch: answers(batch)
        #: The measures that learn, whose parameters are those of the objective.
        self.learning = nn.ModuleList([one for one in measures.values() if isinstance(one, nn.Module)])

    def forward(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """A scalar for each measure; the student has just answered to this batch with these logits (N, classes)."""
        student, answers = self._student.take(), self._ask(batch)
        lesson = Lesson(batch=batch, logits=logits, answers=answers, student=student, teacher=self._teacher.take())
        return {name: measure(lesson) for name, measure in self._measures.items()}
