"""Distillation (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): a student learns a teacher's answers."""

from functools import partial

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.models.architectures import width_of_logits
from compressor.models.replacement import replacement
from compressor.training.layout import channels_last
from compressor.training.loop import train
from compressor.training.objectives import (
    Distance,
    answers_of,
    cross_entropy,
    distillation,
    kl_divergence,
    squared_error,
)
from compressor.training.splitting import split_of
from contract.failures import ClassesMismatch
from contract.methods.distill import Distill


def preflight(candidate: Candidate, params: Distill) -> None:
    """Build the student once, to see whether it can be built for this model."""
    if params.student != "current":
        replacement(candidate, params.student, seed=0)


def apply(candidate: Candidate, params: Distill, context: Context) -> Candidate:
    """Train the student on the teacher's answers to the training data."""
    student = candidate
    if params.student != "current":
        student = replacement(candidate, params.student, seed=context.seed)
    teacher = _teacher(candidate, params, context)
    images = split_of(params, context)
    objective = distillation(
        _distance(params),
        answers_of(teacher, images.learn, params, context),
        labels=partial(cross_entropy, smoothing=params.label_smoothing),
        alpha=params.alpha,
    )
    return train(student, params, context, objective=objective, images=images).coded(student)


def _teacher(candidate: Candidate, params: Distill, context: Context) -> nn.Module:
    teacher = context.other(params.teacher).module
    width = width_of_logits(teacher, candidate.input_shape)
    if width != candidate.num_classes:
        raise ClassesMismatch(f"The teacher tells {width} classes apart, and the student {candidate.num_classes}.")
    return channels_last(teacher)


def _distance(params: Distill) -> Distance:
    return squared_error if params.objective == "mse" else partial(kl_divergence, temperature=params.temperature)
