"""Training that gives back what compression took: on labels, or on what the original answers."""

from functools import partial

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.training.answers import answers_of
from compressor.training.classes import answering_for, shared_classes
from compressor.training.layout import channels_last
from compressor.training.loop import nothing, train
from compressor.training.objectives import Objective, cross_entropy, distillation, kl_divergence
from compressor.training.splitting import Split, split_of
from compressor.training.state import AfterUpdate, Run
from contract.methods import Recovery

#: What `distill_from_original` means.
TEMPERATURE, ALPHA = 4.0, 0.9


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
    objective, context = _objective(candidate, recipe, context, images)
    return train(
        candidate, recipe, context,
        objective=objective, images=images, after_update=after_update, settled=settled, cycles=cycles,
    )  # fmt: skip


def _objective(candidate: Candidate, recipe: Recovery, context: Context, images: Split) -> tuple[Objective, Context]:
    """What the training makes small, and the context in which it goes on."""
    labels = partial(cross_entropy, smoothing=recipe.label_smoothing)
    if not recipe.distill_from_original:
        return labels, context
    original = context.other("original")
    teacher = answering_for(shared_classes(candidate, original, context, kin=True), channels_last(original.module))
    answers, context = answers_of(teacher, images.learn, recipe, context, classes=candidate.num_classes)
    distance = partial(kl_divergence, temperature=TEMPERATURE)
    return distillation(distance, answers, labels=labels, alpha=ALPHA), context
