"""Distillation (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): a student learns a teacher's answers."""

from dataclasses import replace
from functools import partial

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.distillation.comparison import compared, tell_accuracy
from compressor.distillation.students import student_of
from compressor.distillation.teachers import teacher_of
from compressor.measure.counting import count_parameters
from compressor.models.replacement import replacement
from compressor.training.answers import answers_of
from compressor.training.loop import train
from compressor.training.objectives import Distance, cross_entropy, distillation, kl_divergence, squared_error
from compressor.training.splitting import split_of
from contract.methods.distill import Distill
from contract.model import Architecture


def preflight(candidate: Candidate, params: Distill) -> None:
    """Build the student once, to see whether it can be built for this model."""
    if isinstance(params.student, Architecture):
        replacement(candidate, params.student, seed=0)


def apply(candidate: Candidate, params: Distill, context: Context) -> Candidate:
    """Train the student on the teacher's answers to the training data."""
    split = split_of(params, context)
    images = replace(split, learn=replace(split.learn, views=params.views))
    teacher = teacher_of(params.teachers, images.learn, context, classes=candidate.num_classes)
    student = student_of(candidate, params, context)
    _warn_of_size(student, teacher, context)
    labels = partial(cross_entropy, smoothing=params.label_smoothing)
    tell_accuracy(context, "of_teacher", teacher)
    tell_accuracy(context, "before", student.module)
    if params.compare_without_teacher:
        context = compared(student, params, context, objective=labels, images=images)
    objective = distillation(
        _distance(params), answers_of(teacher, images.learn, params, context), labels=labels, alpha=params.alpha
    )
    made = train(student, params, context, objective=objective, images=images).coded(student)
    tell_accuracy(context, "after", made.module)
    return made


def _warn_of_size(student: Candidate, teacher: nn.Module, context: Context) -> None:
    larger, smaller = count_parameters(student.module), count_parameters(teacher)
    if larger > smaller:
        context.notice(
            "larger_than_teacher",
            f"The student has {larger:,} parameters and its teacher {smaller:,}: what is delivered is the larger one.",
        )


def _distance(params: Distill) -> Distance:
    return squared_error if params.objective == "mse" else partial(kl_divergence, temperature=params.temperature)
