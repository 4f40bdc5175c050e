"""The losses are those of the papers, written out here as sums."""

from math import exp, log

import pytest
import torch

from compressor.data.images import Batch
from compressor.training.objectives import (
    Distance,
    cross_entropy,
    distillation,
    kl_divergence,
    squared_error,
)

STUDENT = [[2.0, -1.0, 0.5], [0.0, 0.25, -3.0]]
TEACHER = [[1.0, 1.5, -2.0], [-0.5, 4.0, 0.0]]
LABELS = [2, 1]


def batch() -> Batch:
    return Batch(torch.zeros(2, 1), torch.tensor(LABELS), torch.arange(2))


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def labels_loss() -> float:
    return -sum(log(softmax(row)[label]) for row, label in zip(STUDENT, LABELS, strict=True)) / 2


def kl(temperature: float) -> float:
    """T^2 sum_c p_c (log p_c - log q_c), with p the teacher's softmax and q the student's, mean over the images."""
    total = 0.0
    for told, learnt in zip(TEACHER, STUDENT, strict=True):
        p, q = softmax(told, temperature), softmax(learnt, temperature)
        total += sum(a * (log(a) - log(b)) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / 2


def mse() -> float:
    pairs = [(a, b) for rows in zip(STUDENT, TEACHER, strict=True) for a, b in zip(*rows, strict=True)]
    return sum((a - b) ** 2 for a, b in pairs) / len(pairs)


def test_the_cross_entropy_is_that_of_the_labels() -> None:
    assert float(cross_entropy(torch.tensor(STUDENT), batch())) == pytest.approx(labels_loss(), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_hintons(temperature: float) -> None:
    found = kl_divergence(torch.tensor(STUDENT), torch.tensor(TEACHER), temperature=temperature)
    assert float(found) == pytest.approx(kl(temperature), abs=1e-6)


def test_the_squared_error_is_a_mean_over_images_and_classes() -> None:
    assert float(squared_error(torch.tensor(STUDENT), torch.tensor(TEACHER))) == pytest.approx(mse(), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weighs_the_teacher_against_the_labels(alpha: float) -> None:
    # Given a teacher's answers / When both parts are wanted
    objective = distillation(squared_error, lambda batch: torch.tensor(TEACHER), alpha=alpha)
    # Then they are weighted
    expected = alpha * mse() + (1 - alpha) * labels_loss()
    assert float(objective(torch.tensor(STUDENT), batch())) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("distance", [squared_error, lambda s, t: kl_divergence(s, t, temperature=2.0)])
def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn(distance: Distance) -> None:
    # Given equal logits / When they are compared
    logits = torch.tensor(TEACHER, requires_grad=True)
    loss = distance(logits, torch.tensor(TEACHER))
    loss.backward()
    # Then there is neither a loss nor a gradient
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
