"""Distillation (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): a student learns a teacher's answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.distillation.sights import held, seen_by, warn_of_enlarging
from compressor.distillation.students import student_of
from compressor.distillation.teachers import teachers_of, voice_of
from compressor.distillation.teaching import check_layers, check_pairs, teaching
from compressor.distillation.unaided import compared, tell_accuracy, tell_gain
from compressor.measure.counting import count_parameters
from compressor.models.replacement import replacement
from compressor.training.answers import answers_of, is_asked_once, live_answers
from compressor.training.classes import knows_classes, shared_classes
from compressor.training.loop import train
from compressor.training.objectives import Objective, cross_entropy
from compressor.training.splitting import Split, split_of
from contract.methods.distill import Distill
from contract.methods.params import is_of_the_job
from contract.model import Architecture

_NO_GAIN = (
    "compare_without_teacher has trained the student twice, but there are no labelled images to compare the two by, so "
    "the report has both curves and no gain. Name such images under data.evaluation."
)


def preflight(candidate: Candidate, params: Distill) -> None:
    """Build the student once, to see whether it can be built for this model and has the layers that are named."""
    if isinstance(params.student, Architecture):
        check_layers(replacement(candidate, params.student, seed=0), params)
    elif params.student == "current":
        check_layers(candidate, params)


def check_teachers(student: Candidate, params: Distill, context: Context) -> None:
    """See whether those who teach are there, know the student's classes and have the layers that are compared.

    Raises what `apply` raises: `UnfitModel`, `ClassesMismatch` and `NoLayerMatches`.
    """
    teachers = [context.other(name) for name in params.teachers]
    _columns(student, teachers, params, context)
    check_pairs(student, teachers[0], params)


def apply(candidate: Candidate, params: Distill, context: Context) -> Candidate:
    """Train the student on what the teachers say to the training data."""
    split = split_of(params, context)
    teachers, student = teachers_of(params.teachers, context), student_of(candidate, params, context)
    images = seen_by(teachers, replace(split, learn=replace(split.learn, views=params.views)))
    columns = _columns(student, teachers, params, context)
    voice = voice_of(teachers, columns or [None] * len(teachers), images.learn)
    _warn_of_size(student, teachers, context)
    warn_of_enlarging(teachers, images.learn, context)
    tell_accuracy(context, "before", student.module)
    if columns is not None:
        tell_accuracy(context, "of_teacher", voice, sights=tuple(images.learn.sights))
    alone: Tensor | None = None
    if params.compare_without_teacher:
        labels = partial(cross_entropy, smoothing=params.label_smoothing)
        alone, context = compared(student, params, context, objective=labels, images=images)
        if alone is None:
            context.notice("gain_not_measured", _NO_GAIN)
    made = _taught(student, teachers[0], voice, params, context, images)
    tell_gain(context, tell_accuracy(context, "after", made.module), alone)
    return made


def _columns(
    student: Candidate, teachers: Sequence[Candidate], params: Distill, context: Context
) -> list[Tensor | None] | None:
    """Which of each teacher's classes are the student's; none where features are compared alone and they are others."""
    kin = [is_of_the_job(name) for name in params.teachers]
    known = (knows_classes(student, teacher, kin=own) for teacher, own in zip(teachers, kin, strict=True))
    if not params.compares_answers and not all(known):
        return None
    pointers = ["/teacher"] if len(teachers) == 1 else [f"/teacher/{index}" for index in range(len(teachers))]
    return [
        shared_classes(student, teacher, context, kin=own, pointer=pointer)
        for teacher, own, pointer in zip(teachers, kin, pointers, strict=True)
    ]


def _looked_at(images: Split, params: Distill, context: Context, *, width: int) -> Split:
    """The images, with what teachers see of them held where they look more than once."""
    once = is_asked_once(images.learn, params, width=width)
    return Split(
        images.learn if once else held(images.learn, context),
        held(images.unlabelled, context) if images.unlabelled else images.held_out,
    )


def _taught(
    student: Candidate, teacher: Candidate, voice: nn.Module, params: Distill, context: Context, images: Split
) -> Candidate:
    count = len(images.learn)
    with (
        teaching(params, context, student=student, teacher=teacher, voice=voice, images=count) as lesson,
        _judging(student, teacher, voice, params, context, images) as judged_by,
    ):
        seen = _looked_at(images, params, context, width=lesson.width)
        answers, context = answers_of(lesson.voice, seen.learn, params, context, width=lesson.width)
        objective = lesson.objective(answers)
        run = train(student, params, context, objective=objective, images=seen, judged_by=judged_by)
        return run.coded(student)


@contextmanager
def _judging(
    student: Candidate, teacher: Candidate, voice: nn.Module, params: Distill, context: Context, images: Split
) -> Iterator[Objective | None]:
    """By what epochs are judged where the held-out images have no labels: what the teacher says to these."""
    if images.unlabelled is None:
        yield None
        return
    count = len(images.unlabelled)
    with teaching(params, context, student=student, teacher=teacher, voice=voice, images=count) as lesson:
        yield lesson.objective(live_answers(lesson.voice, params, context))


def _warn_of_size(student: Candidate, teachers: Sequence[Candidate], context: Context) -> None:
    larger = count_parameters(student.module)
    smaller = max(count_parameters(teacher.module) for teacher in teachers)
    if larger > smaller:
        context.notice(
            "larger_than_teacher",
            f"The student has {larger:,} parameters and its teacher {smaller:,}: what is delivered is the larger one.",
        )
