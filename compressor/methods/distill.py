"""Distillation (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): a student learns a teacher's answers."""

from functools import partial

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.models.architectures import width_of_logits
from compressor.models.replacement import replacement
from compressor.training.layout import channels_last
from compressor.training.loop import train, training_images
from compressor.training.objectives import (
    Answers,
    Distance,
    cached_answers,
    distillation,
    kl_divergence,
    live_answers,
    squared_error,
)
from contract.failures import ClassesMismatch, UnfitModel
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
    objective = distillation(_distance(params), _answers(teacher, params, context), alpha=params.alpha)
    train(student, params, context, objective=objective)
    return student


def _teacher(candidate: Candidate, params: Distill, context: Context) -> nn.Module:
    if params.teacher not in context.teachers:
        raise UnfitModel(f"There is no teacher {params.teacher}.")
    teacher = context.teachers[params.teacher]()
    width = width_of_logits(teacher, candidate.input_shape)
    if width != candidate.num_classes:
        raise ClassesMismatch(f"The teacher tells {width} classes apart, and the student {candidate.num_classes}.")
    return channels_last(teacher)


def _distance(params: Distill) -> Distance:
    return squared_error if params.objective == "mse" else partial(kl_divergence, temperature=params.temperature)


def _answers(teacher: nn.Module, params: Distill, context: Context) -> Answers:
    if params.augment != "none":
        return live_answers(teacher)
    images = training_images(context)
    context.progress(0.0, "asking the teacher")
    return cached_answers(teacher, images, batch_size=params.batch_size, device=context.device)
