"""The distances of logits are those of the papers, written out here as sums over plain numbers."""

from math import exp, log, sqrt

import pytest
import torch

from compressor.distillation.logits import correlated, decoupled, pearson, standardized
from compressor.training.objectives import kl_divergence

STUDENT = [[2.0, -1.0, 0.5, 0.1], [0.0, 0.25, -3.0, 1.5], [1.0, 2.0, -0.5, -1.5]]
TEACHER = [[1.0, 1.5, -2.0, 0.3], [-0.5, 4.0, 0.0, 1.0], [0.2, 0.1, 0.6, -2.0]]
TARGETS = [2, 1, 0]


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(STUDENT, dtype=torch.float64), torch.tensor(TEACHER, dtype=torch.float64)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def kl(told: list[float], learnt: list[float]) -> float:
    return sum(p * log(p / q) for p, q in zip(told, learnt, strict=True))


def binary_and_rest(row: list[float], target: int, temperature: float) -> tuple[list[float], list[float]]:
    """(p_t, 1 - p_t), and the probabilities among the classes that are not the target."""
    p = softmax(row, temperature)
    rest = [value for index, value in enumerate(p) if index != target]
    return [p[target], sum(rest)], [value / sum(rest) for value in rest]


@pytest.mark.parametrize(("temperature", "alpha", "beta"), [(1.0, 1.0, 8.0), (4.0, 0.5, 2.0)])
def test_decoupled_distillation_weighs_the_target_and_the_others(temperature: float, alpha: float, beta: float) -> None:
    # Given KL of the target against the rest, and KL among the rest, each weighted, times T^2
    total = 0.0
    for learnt, told, target in zip(STUDENT, TEACHER, TARGETS, strict=True):
        (binary_s, rest_s), (binary_t, rest_t) = (binary_and_rest(row, target, temperature) for row in (learnt, told))
        total += alpha * kl(binary_t, binary_s) + beta * kl(rest_t, rest_s)
    # When it is computed on logits / Then it is the mean over the images
    found = decoupled(
        *tensors(), torch.tensor(TARGETS), temperature=temperature, target_weight=alpha, others_weight=beta
    )
    assert float(found) == pytest.approx(temperature**2 * total / 3, abs=1e-6)


def test_decoupled_distillation_is_kl_where_the_others_count_with_their_probability() -> None:
    # Given one image: KL = TCKD + (1 - p_t) NCKD, which is equation 6 of the paper
    student, teacher = (rows[:1] for rows in tensors())
    outside = 1 - softmax(TEACHER[0], 2.0)[TARGETS[0]]
    # When the others are weighted so / Then it is plain KL
    found = decoupled(
        student, teacher, torch.tensor(TARGETS[:1]), temperature=2.0, target_weight=1.0, others_weight=outside
    )
    assert float(found) == pytest.approx(float(kl_divergence(student, teacher, temperature=2.0)), abs=1e-9)


def test_logits_that_are_far_apart_stay_finite() -> None:
    # Given a teacher that is as sure as float32 allows / When it teaches / Then there is a loss with a gradient
    student = torch.zeros(2, 3, requires_grad=True)
    teacher = torch.tensor([[500.0, -500.0, 0.0], [0.0, 900.0, -900.0]])
    decoupled(student, teacher, torch.tensor([0, 1]), temperature=1.0, target_weight=1.0, others_weight=8.0).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.isfinite().all()


def correlation(first: list[float], second: list[float]) -> float:
    a, b = sum(first) / len(first), sum(second) / len(second)
    shared = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    return shared / sqrt(sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second))


@pytest.mark.parametrize(("temperature", "inter", "intra"), [(1.0, 1.0, 1.0), (4.0, 2.0, 0.5)])
def test_dist_is_one_minus_pearsons_correlation_along_rows_and_columns(
    temperature: float, inter: float, intra: float
) -> None:
    # Given probabilities at a temperature
    learnt, told = ([softmax(row, temperature) for row in rows] for rows in (STUDENT, TEACHER))
    rows = sum(1 - correlation(a, b) for a, b in zip(learnt, told, strict=True)) / 3
    columns = [1 - correlation([row[c] for row in learnt], [row[c] for row in told]) for c in range(4)]
    # When both are correlated / Then the means over images and over classes are weighted
    found = correlated(*tensors(), temperature=temperature, inter=inter, intra=intra)
    assert float(found) == pytest.approx(inter * rows + intra * sum(columns) / 4, abs=1e-6)


def test_a_row_that_does_not_vary_has_no_correlation_and_no_broken_gradient() -> None:
    # Given a class with the same probability in all images / When it is correlated
    flat = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    found = pearson(flat, torch.rand(2, 4, dtype=torch.float64))
    found.sum().backward()  # type: ignore[no-untyped-call]
    # Then that is zero, and nothing is divided by nothing
    assert found.tolist() == [0.0, 0.0]
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_standardized_logits_have_no_mean_and_a_deviation_of_one() -> None:
    # Given logits / When they are standardized / Then it is (z - mean) / sqrt(mean of squares), image by image
    found = standardized(tensors()[0])
    for row, made in zip(STUDENT, found.tolist(), strict=True):
        mean = sum(row) / 4
        deviation = sqrt(sum((value - mean) ** 2 for value in row) / 4)
        assert made == pytest.approx([(value - mean) / deviation for value in row], abs=1e-6)


def test_standardized_logits_know_neither_size_nor_shift() -> None:
    # Given a student with the teacher's logits, all five times as large and shifted / When both are standardized
    _, teacher = tensors()
    # Then there is nothing left to learn
    found = kl_divergence(standardized(5 * teacher + 3), standardized(teacher), temperature=2.0)
    assert float(found) == pytest.approx(0, abs=1e-9)
