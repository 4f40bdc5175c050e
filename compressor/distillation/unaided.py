"""What the teacher is worth: the same student trained on labels alone, and how often each of them is right."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context, TrainingState
from compressor.data.origin import Sight
from compressor.measure.accuracy import lost_between, part_of
from compressor.training.loop import train
from compressor.training.objectives import Objective
from compressor.training.phase import Phase
from compressor.training.splitting import Split
from contract.methods import Recipe
from contract.report import Gain

#: Marks the checkpoints of the training that comes first.
_ALONE = "without_teacher"
#: In those of the second, which evaluation images the first is right on.
_RIGHT = "right_without_teacher"


def compared(
    student: Candidate, recipe: Recipe, context: Context, *, objective: Objective, images: Split
) -> tuple[Tensor | None, Context]:
    """Train a copy of the student on labels alone, unless that is done, and record what it came to.

    That is which evaluation images (N,) it is right on, none where there are none. The context is that in which the
    student itself is then trained: the other half of the step.
    """
    resumed = context.checkpoints.resume()
    start = [resumed] if resumed else []
    if resumed is None or _ALONE in resumed.values:
        alone = student.copied()
        train(alone, recipe, _alone(context, start), objective=objective, images=images)
        right = tell_accuracy(context, "without_teacher", alone.module)
    else:
        right = None if resumed.values[_RIGHT] is None else torch.tensor(resumed.values[_RIGHT])
    marks = {_RIGHT: None if right is None else right.tolist()}
    return right, replace(
        context,
        checkpoints=Phase(context.checkpoints, start, marks),
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


def tell_accuracy(context: Context, whose: str, module: nn.Module, *, sights: Sequence[Sight] = ()) -> Tensor | None:
    """Record how often a network is right on the evaluation data, where there is any; on which images (N,) it is.

    It is given the images in these sights too.
    """
    right = context.right(module, sights)
    if right is not None:
        context.record(f"accuracy_{whose}", part_of(right).value)
    return right


def tell_gain(context: Context, taught: Tensor | None, alone: Tensor | None) -> None:
    """Record what the teacher is worth, where both are known to be right on some images (N,)."""
    if taught is not None and alone is not None:
        found = lost_between(taught, alone)
        context.record("gain", Gain(value=found.value, n=found.n, ci95=found.ci95).model_dump(mode="json"))
