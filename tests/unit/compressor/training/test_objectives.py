"""The losses are those of the papers, written out here as sums."""

from collections.abc import Callable
from math import exp, log

import pytest
import torch
from torch import Tensor, nn

from compressor.data.images import Batch
from compressor.training.objectives import (
    Distance,
    cached_answers,
    cross_entropy,
    distillation,
    kl_divergence,
    live_answers,
    squared_error,
)
from tests.unit.compressor.small_jobs import images

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


class Counting(nn.Module):
    """Answers with channel means, and counts the images it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return x.mean((2, 3))


def test_cached_answers_are_those_given_live_and_are_asked_for_once() -> None:
    # Given a teacher, and images that come in another order each epoch
    teacher, data = Counting(), images(20, seed=0)
    cached = cached_answers(teacher, data, batch_size=8, device=torch.device("cpu"))
    assert teacher.asked == 20
    # When it is asked for two epochs
    batches = [one for epoch in range(2) for one in data.batches(6, seed=1, epoch=epoch)]
    answers = [cached(one) for one in batches]
    # Then nobody runs it again, and the answers are its own
    assert teacher.asked == 20
    live = live_answers(teacher)
    assert all(torch.allclose(answer, live(one), atol=1e-6) for answer, one in zip(answers, batches, strict=True))


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


@pytest.mark.parametrize(
    "answers", [live_answers, lambda t: cached_answers(t, images(4, seed=0), batch_size=4, device=torch.device("cpu"))]
)
def test_no_gradient_reaches_the_teacher(answers: Callable[[nn.Module], Callable[[Batch], Tensor]]) -> None:
    # Given a teacher that could be trained / When it answers
    teacher = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    told = answers(teacher)(next(images(4, seed=0).batches(4)))
    # Then its answers are constants, which may take part in a student's loss
    student = torch.zeros(4, 4, requires_grad=True)
    squared_error(student, told).backward()
    assert not told.requires_grad
    assert all(parameter.grad is None for parameter in teacher.parameters())
