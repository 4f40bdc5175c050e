"""The objective of a distillation, made of the terms that were asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.distillation.answering import answer_measure, answered, labelled
from compressor.distillation.comparing import Comparison, comparison
from compressor.distillation.feature import Pair
from compressor.distillation.lesson import Lessons, Measure
from compressor.distillation.matching import Side
from compressor.distillation.memory import check_memory
from compressor.distillation.pairing import check_student, pairs_of
from compressor.distillation.saying import Saying
from compressor.distillation.taps import tapped
from compressor.training.answers import Answers
from compressor.training.objectives import cross_entropy
from compressor.training.weighted import Weighted
from contract.methods.distill import Distill
from contract.methods.objectives import AnyTerm, Crd, FeatureTerm, LayerTerm

_LABELS = "labels"


def check_layers(student: Candidate, params: Distill) -> None:
    """Look for the student's layers that the params name; raises `NoLayerMatches` and `UnfitModel`."""
    if params.looks_inside:
        check_student(Side(student, role="student"), params.terms)


def check_pairs(student: Candidate, teacher: Candidate, params: Distill) -> None:
    """Look for the layers of both that are compared; raises `NoLayerMatches` and `UnfitModel` as `teaching` does."""
    if params.looks_inside:
        learner, tutor = Side(student, role="student"), Side(teacher, role="teacher")
        for index, term in enumerate(params.terms):
            if isinstance(term, FeatureTerm):
                pairs_of(term, index, learner, tutor)


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Whom to ask, and what is made of the answers."""

    #: Says to images all that the student is compared with.
    voice: nn.Module
    #: How many numbers that is for each image.
    width: int
    #: From what it says to what the student makes small.
    objective: Callable[[Answers], Weighted]


@contextmanager
def teaching(
    params: Distill, context: Context, *, student: Candidate, teacher: Candidate, voice: nn.Module, images: int
) -> Iterator[Teaching]:
    """How the student learns; within this block layers of both networks are listened to.

    `voice` gives logits for the student's classes, and has `teacher` compute them where terms look inside. `images` is
    how many there are to learn from. Raises `NoLayerMatches` and `UnfitModel`.
    """
    measures = _measures(params, context, student, teacher, images)
    comparisons = [one for one in measures.values() if isinstance(one, Comparison)]
    columns = {one.name: one.columns for one in comparisons}
    pairs = [pair for one in comparisons for pair in one.pairs]
    learners, teachers = {pair.student.name for pair in pairs}, {pair.teacher.name for pair in pairs}
    with tapped(student.module, sorted(learners)) as learnt, tapped(teacher.module, sorted(teachers)) as seen:

        def objective(answers: Answers) -> Weighted:
            lessons = Lessons(measures, answers=answers, student=learnt, columns=columns)
            return Weighted(lessons, _weights(params)).to(context.device)

        yield Teaching(
            voice=Saying(voice, seen, comparisons, answers=params.compares_answers) if comparisons else voice,
            width=sum(map(sum, columns.values())) + (student.num_classes if params.compares_answers else 0),
            objective=objective,
        )


def _named(params: Distill) -> dict[str, AnyTerm]:
    """The terms by the names of their objectives, numbered from the second of a name on."""
    names = [term.objective for term in params.terms]
    counted = [names[: at + 1].count(name) for at, name in enumerate(names)]
    keys = [name if count == 1 else f"{name} {count}" for name, count in zip(names, counted, strict=True)]
    return dict(zip(keys, params.terms, strict=True))


def _weights(params: Distill) -> dict[str, float]:
    weights = {name: params.alpha * term.weight for name, term in _named(params).items()}
    return weights if params.alpha == 1 else weights | {_LABELS: 1 - params.alpha}


def _measures(
    params: Distill, context: Context, student: Candidate, teacher: Candidate, images: int
) -> dict[str, Measure]:
    """What each term measures, by its name; and the labels, where they have a part."""
    terms = _named(params)
    found: dict[str, Measure] = {}
    if params.looks_inside:
        found |= _comparisons(terms, context, student, teacher, images)
    targets = labelled if params.alpha < 1 else answered
    for name, term in terms.items():
        if not isinstance(term, FeatureTerm):
            found[name] = answer_measure(term, targets)
    if params.alpha < 1:
        labels = partial(cross_entropy, smoothing=params.label_smoothing)
        found[_LABELS] = lambda lesson: labels(lesson.logits, lesson.batch)
    return found


def _comparisons(
    terms: dict[str, AnyTerm], context: Context, student: Candidate, teacher: Candidate, images: int
) -> dict[str, Comparison]:
    """The terms that look inside, over layers that match; adapters begin by the seed."""
    learner, tutor = Side(student, role="student"), Side(teacher, role="teacher")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed % 2**63)
        found = {
            name: comparison(name, term, _pairs(term, index, learner, tutor, images), images=images)
            for index, (name, term) in enumerate(terms.items())
            if isinstance(term, FeatureTerm)
        }
    context.record(
        "matched_layers",
        {name: [[pair.student.name, pair.teacher.name] for pair in one.pairs] for name, one in found.items()},
    )
    return found


def _pairs(term: LayerTerm, index: int, student: Side, teacher: Side, images: int) -> list[Pair]:
    """What the term compares, if there is room for what it remembers of it."""
    found = pairs_of(term, index, student, teacher)
    if isinstance(term, Crd):
        check_memory(term, pairs=len(found), images=images, pointer=f"/objective/{index}/negatives")
    return found
