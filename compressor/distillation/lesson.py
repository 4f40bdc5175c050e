"""What is known of one batch when the student is compared with its teacher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
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
    #: The teacher's logits for the student's classes, (N, classes); no columns where nothing compares answers.
    answers: Tensor
    #: What layers of the student give out, by name.
    student: Mapping[str, Tensor]
    #: What the teacher says to comparisons, by their names: (N, columns) for each of their pairs, without gradients.
    told: Mapping[str, Sequence[Tensor]]


#: From a lesson to a scalar.
Measure = Callable[[Lesson], Tensor]


class Lessons(nn.Module):
    """From logits and their batch to what each measure says of them, the teacher being asked once for all.

    Behind its logits the teacher's answers have so many `columns` for each pair of layers of each comparison.
    """

    def __init__(
        self, measures: Mapping[str, Measure], *, answers: Answers, student: Taps, columns: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__()
        self._measures, self._student, self._columns = dict(measures), student, columns
        # Not the answers themselves: were they a module, its weights would be trained.
        self._ask: Answers = lambda batch: answers(batch)
        #: The measures that learn, whose parameters are those of the objective.
        self.learning = nn.ModuleList([one for one in measures.values() if isinstance(one, nn.Module)])

    def forward(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """A scalar for each measure; the student has just answered to this batch with these logits (N, classes)."""
        student, (answers, told) = self._student.take(), self._parted(self._ask(batch))
        lesson = Lesson(batch=batch, logits=logits, answers=answers, student=student, told=told)
        return {name: measure(lesson) for name, measure in self._measures.items()}

    def _parted(self, said: Tensor) -> tuple[Tensor, dict[str, Sequence[Tensor]]]:
        """The teacher's logits, and behind them what comparisons need of it."""
        widths = {name: sum(columns) for name, columns in self._columns.items()}
        answers, *rest = torch.split(said, [said.shape[1] - sum(widths.values()), *widths.values()], dim=1)
        parts = zip(self._columns.items(), rest, strict=True)
        return answers, {name: torch.split(part, list(columns), dim=1) for (name, columns), part in parts}
