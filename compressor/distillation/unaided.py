"""What the teacher is worth: the same student trained on labels alone, and how often each of them is right."""

import copy
from dataclasses import dataclass, replace

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Checkpoints, Context, TrainingState
from compressor.training.loop import train
from compressor.training.objectives import Objective
from compressor.training.splitting import Split
from contract.methods import Recipe
from contract.value import Json

#: Marks the checkpoints of the training that comes first.
_ALONE = "without_teacher"


def compared(student: Candidate, recipe: Recipe, context: Context, *, objective: Objective, images: Split) -> Context:
    """Train a copy of the student on labels alone, unless that is done, and record what it came to.

    The context is that in which the student itself is then trained: the other half of the step.
    """
    resumed = context.checkpoints.resume()
    if resumed is None or _ALONE in resumed.values:
        alone = replace(student, module=copy.deepcopy(student.module))
        where = _Alone(context, resumed).context()
        train(alone, recipe, where, objective=objective, images=images)
        tell_accuracy(context, "without_teacher", alone.module)
        resumed = None
    start = _Resumed(context.checkpoints, [resumed] if resumed else [])
    return replace(
        context, checkpoints=start, progress=lambda fraction, phase: context.progress(0.5 + fraction / 2, phase)
    )


def tell_accuracy(context: Context, whose: str, module: nn.Module) -> None:
    """Record how often a network is right on the evaluation data, where there is any."""
    found = context.accuracy(module)
    if found is not None:
        context.record(f"accuracy_{whose}", found.value)


@dataclass(frozen=True)
class _Resumed:
    """A step's checkpoints, whose start has already been looked at."""

    step: Checkpoints
    start: list[TrainingState]

    def resume(self) -> TrainingState | None:
        return self.start.pop() if self.start else None

    def save(self, state: TrainingState) -> None:
        self.step.save(state)


@dataclass(frozen=True)
class _Alone:
    """The training on labels alone, which is the first half of the step."""

    whole: Context
    resumed: TrainingState | None

    def context(self) -> Context:
        """Where it is done: what it records bears a name of its own."""
        whole = self.whole
        return replace(
            whole,
            checkpoints=self,
            progress=lambda fraction, phase: whole.progress(fraction / 2, f"without teacher, {phase}"),
            record=self._record,
        )

    def _record(self, name: str, value: Json) -> None:
        self.whole.record(f"{name}_{_ALONE}", value)

    def resume(self) -> TrainingState | None:
        return self.resumed

    def save(self, state: TrainingState) -> None:
        self.whole.checkpoints.save(replace(state, values={**state.values, _ALONE: True}))
