"""What the params of a term say is what its distance is computed with."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compressor.data.images import Batch
from compressor.distillation.answering import answer_measure, answered, labelled
from compressor.distillation.comparing import Comparison, Contrast, comparison
from compressor.distillation.feature import Feature, Pair
from compressor.distillation.features import (
    attention,
    attention_transfer,
    contrast,
    relational_angles,
    relational_distances,
    similarity_preserving,
)
from compressor.distillation.lesson import Lesson
from compressor.distillation.logits import correlated, decoupled, standardized
from compressor.training.objectives import kl_divergence, squared_error
from contract.methods.objectives import (
    Attention,
    Crd,
    Dist,
    Dkd,
    Fitnet,
    Kl,
    LayerTerm,
    LogitTerm,
    Mse,
    Rkd,
    Similarity,
)

LABELS = torch.tensor([0, 2, 1])
_RANDOM = torch.Generator().manual_seed(0)
S, T = (torch.randn(3, 4, generator=_RANDOM) for _ in range(2))
#: Maps of three images, of a layer of each network.
MAPS = {name: torch.randn(3, 5, 4, 4, generator=_RANDOM) for name in ("learner", "tutor")}
PAIR = Pair(Feature("learner", (5, 4, 4), (8, 8)), Feature("tutor", (5, 4, 4), (8, 8)))
LESSON = Lesson(
    batch=Batch(torch.zeros(3, 3, 8, 8), LABELS, torch.arange(3)), logits=S, answers=T, student=MAPS, told={}
)
M, N = MAPS["learner"], MAPS["tutor"]
#: Means over places.
V, W = M.mean((2, 3)), N.mean((2, 3))


def compared(made: Comparison) -> float:
    """What a comparison finds in the lesson, in which the teacher says what it needs."""
    return float(made(replace(LESSON, told={made.name: made.told(MAPS)})).detach())


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (Kl(temperature=2), kl_divergence(S, T, temperature=2)),
        (Kl(temperature=2, standardize=True), kl_divergence(standardized(S), standardized(T), temperature=2)),
        (Mse(), squared_error(S, T)),
        (
            Dkd(temperature=2, target=3, others=5),
            decoupled(S, T, LABELS, temperature=2, target_weight=3, others_weight=5),
        ),
        (
            Dkd(standardize=True),
            decoupled(standardized(S), standardized(T), LABELS, temperature=4, target_weight=1, others_weight=1),
        ),
        (Dist(temperature=2, inter=3, intra=5), correlated(S, T, temperature=2, inter=3, intra=5)),
    ],
    ids=str,
)
def test_answers_are_compared_as_the_term_says(term: LogitTerm, expected: Tensor) -> None:
    # Given a batch with labels / When a term compares the answers / Then it is by the paper's formula, with its factors
    assert float(answer_measure(term, labelled)(LESSON)) == pytest.approx(float(expected), abs=1e-6)


def test_without_labels_the_target_is_what_the_teacher_finds_most_likely() -> None:
    expected = decoupled(S, T, T.argmax(1), temperature=4, target_weight=2, others_weight=1)
    assert float(answer_measure(Dkd(target=2), answered)(LESSON)) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (Fitnet(), (M - N).square().mean()),
        (Attention(power=4), attention_transfer(attention(M, power=4), attention(N, power=4))),
        (Similarity(), similarity_preserving(M, N)),
        (Rkd(distance=3, angle=0.5), 3 * relational_distances(V, W) + 0.5 * relational_angles(V, W)),
    ],
    ids=str,
)
def test_features_are_compared_as_the_term_says(term: LayerTerm, expected: Tensor) -> None:
    # Given maps of both networks / When a term compares them / Then it is by the paper's formula, with its factors
    assert compared(comparison("it", term, [PAIR], images=3)) == pytest.approx(float(expected), abs=1e-6)


def test_images_are_told_apart_in_the_width_and_at_the_temperature_that_the_term_says() -> None:
    # Given vectors of both networks, each behind a layer of its own
    made = comparison("it", Crd(temperature=0.5, width=7), [PAIR], images=3)
    (head,) = made.heads
    assert isinstance(head, Contrast)
    # When images are told apart / Then it is by these seven numbers, at this temperature
    learnt, told = head.student(V), head.teacher(W)
    assert learnt.shape == (3, 7)
    assert compared(made) == pytest.approx(contrast(learnt, told, temperature=0.5).item(), abs=1e-6)


def test_a_term_over_several_layers_is_their_mean() -> None:
    turned = Pair(PAIR.student, Feature("learner", (5, 4, 4), (8, 8)))
    assert compared(comparison("it", Fitnet(), [PAIR, turned], images=3)) == pytest.approx(
        float((M - N).square().mean()) / 2, abs=1e-6
    )
