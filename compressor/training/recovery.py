"""Training that gives back what compression took: on labels, or on what the original answers."""

from functools import partial

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.training.answers import Answers, answers_of, live_answers
from compressor.training.classes import answering_for, shared_classes
from compressor.training.layout import channels_last
from compressor.training.loop import nothing, train
from compressor.training.objectives import Objective, cross_entropy, distillation, kl_divergence
from compressor.training.splitting import split_of
from compressor.training.state import AfterUpdate, Run
from contract.methods import Recovery

#: At which `distill_from_original` compares answers.
TEMPERATURE = 4.0


def recover(
    candidate: Candidate,
    recipe: Recovery,
    context: Context,
    *,
    after_update: AfterUpdate = nothing,
    settled: int = 0,
    cycles: int = 1,
) -> Run:
    """Train the candidate in place by the recipe; raises what `train` raises, and `MissingData`."""
    images = split_of(recipe, context)
    labels = partial(cross_entropy, smoothing=recipe.label_smoothing)
    objective: Objective = labels
    judged_by: Objective | None = None
    if recipe.distill_from_original:
        teacher = _teacher(candidate, context)
        taught = partial(_taught, recipe, labels=labels)
        if images.unlabelled is not None:
            judged_by = taught(live_answers(teacher, recipe, context))
        answers, context = answers_of(teacher, images.learn, recipe, context, width=candidate.num_classes)
        objective = taught(answers)
    return train(
        candidate, recipe, context,
        objective=objective, images=images, judged_by=judged_by, after_update=after_update, settled=settled,
        cycles=cycles,
    )  # fmt: skip


def _teacher(candidate: Candidate, context: Context) -> nn.Module:
    """The original, answering for the candidate's classes."""
    original = context.other("original")
    return answering_for(shared_classes(candidate, original, context, kin=True), channels_last(original.module))


def _taught(recipe: Recovery, answers: Answers, *, labels: Objective) -> Objective:
    """What the training makes small where the original teaches."""
    distance = partial(kl_divergence, temperature=TEMPERATURE)
    return distillation(distance, answers, labels=labels, alpha=recipe.alpha)
