"""What the teacher is worth: the same student trained on labels alone, and how often each of them is right."""

from dataclasses import replace

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context, TrainingState
from compressor.training.loop import train
from compressor.training.objectives import Objective
from compressor.training.phase import Phase
from compressor.training.splitting import Split
from contract.methods import Recipe

#: Marks the checkpoints of the training that comes first.
_ALONE = "without_teacher"


def compared(student: Candidate, recipe: Recipe, context: Context, *, objective: Objective, images: Split) -> Context:
    """Train a copy of the student on labels alone, unless that is done, and record what it came to.

    The context is that in which the student itself is then trained: the other half of the step.
    """
    resumed = context.checkpoints.resume()
    start = [resumed] if resumed else []
    if resumed is None or _ALONE in resumed.values:
        alone = student.copied()
        train(alone, recipe, _alone(context, start), objective=objective, images=images)
        tell_accuracy(context, "without_teacher", alone.module)
    return replace(
        context,
        checkpoints=Phase(context.checkpoints, start),
        progress=lambda fraction, phase: context.progress(0.5 + fraction / 2, phase),
    )


def _alone(context: Context, start: list[TrainingState]) -> Context:
    """Where the student trains on labels alone, for the first half of the step; what is recorded says so."""
    return replace(
        context,
        checkpoints=Phase(context.checkpoints, start, {_ALONE: True}),
        progress=lambda fraction, phase: context.progress(fraction / 2, f"without teacher, {phase}"),
        record=lambda name, value: context.record(f"{name}_{_ALONE}", value),
    )


def tell_accuracy(context: Context, whose: str, module: nn.Module) -> None:
    """Record how often a network is right on the evaluation data, where there is any."""
    found = context.accuracy(module)
    if found is not None:
        context.record(f"accuracy_{whose}", found.value)
