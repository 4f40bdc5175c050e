"""The distances of features are those of the papers, written out here image by image."""

from itertools import combinations, permutations
from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor

from compressor.distillation.features import (
    ANGLE_IMAGES,
    attention_transfer,
    contrast,
    relational_angles,
    relational_distances,
    similarity_preserving,
)

Vector = list[float]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dot(first: Vector, second: Vector) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def less(first: Vector, second: Vector) -> Vector:
    return [a - b for a, b in zip(first, second, strict=True)]


def unit(vector: Vector) -> Vector:
    return [value / sqrt(dot(vector, vector)) for value in vector]


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_attention_is_the_sum_over_channels_of_powers_at_length_one(power: float) -> None:
    # Given maps of other widths
    student, teacher = drawn(3, 4, 2, 5, seed=0), drawn(3, 6, 2, 5, seed=1)

    def attention(image: list[list[list[float]]]) -> Vector:
        return unit([sum(abs(c[y][x]) ** power for c in image) for y in range(2) for x in range(5)])

    # When their attention is compared / Then it is the mean squared distance of the unit vectors
    ways = [less(attention(a), attention(b)) for a, b in zip(student.tolist(), teacher.tolist(), strict=True)]
    found = attention_transfer(student, teacher, power=power)
    assert float(found) == pytest.approx(sum(dot(way, way) for way in ways) / 3, abs=1e-6)


def test_similarities_are_inner_products_with_rows_of_length_one() -> None:
    # Given features of any shape
    student, teacher = drawn(4, 3, 2, 2, seed=0), drawn(4, 5, seed=1)

    def similarities(features: Tensor) -> list[Vector]:
        rows = features.reshape(4, -1).tolist()
        return [unit([dot(one, other) for other in rows]) for one in rows]

    # When they are compared / Then it is the squared Frobenius norm of the difference, by b^2
    pairs = zip(similarities(student), similarities(teacher), strict=True)
    expected = sum(dot(less(a, b), less(a, b)) for a, b in pairs) / 4**2
    assert float(similarity_preserving(student, teacher)) == pytest.approx(expected, abs=1e-6)


def test_relational_distances_are_in_units_of_their_mean() -> None:
    # Given vectors of other widths
    student, teacher = drawn(5, 3, seed=0), 9 * drawn(5, 7, seed=1)

    def distances(vectors: list[Vector]) -> Vector:
        found = [sqrt(dot(less(a, b), less(a, b))) for a, b in combinations(vectors, 2)]
        return [one / (sum(found) / len(found)) for one in found]

    # When they are compared / Then it is Huber's loss, mean over the pairs
    differences = less(distances(student.tolist()), distances(teacher.tolist()))
    expected = sum(map(huber, differences)) / len(differences)
    assert float(relational_distances(student, teacher)) == pytest.approx(expected, abs=1e-6)


def test_relational_angles_are_between_every_three_images() -> None:
    # Given vectors of other widths
    student, teacher = drawn(5, 3, seed=0), drawn(5, 7, seed=1)

    def angles(vectors: list[Vector]) -> Vector:
        """The cosine at the second of three, for every three in every order."""
        return [dot(unit(less(i, j)), unit(less(k, j))) for i, j, k in permutations(vectors, 3)]

    # When they are compared / Then it is Huber's loss, mean over the triplets
    differences = less(angles(student.tolist()), angles(teacher.tolist()))
    expected = sum(map(huber, differences)) / len(differences)
    assert float(relational_angles(student, teacher)) == pytest.approx(expected, abs=1e-6)


def test_angles_are_measured_among_so_many_images_only() -> None:
    # Given more images than that / When angles are measured / Then those behind make no difference
    student, teacher = drawn(ANGLE_IMAGES + 8, 3, seed=0), drawn(ANGLE_IMAGES + 8, 4, seed=1)
    few = relational_angles(student[:ANGLE_IMAGES], teacher[:ANGLE_IMAGES])
    assert torch.equal(relational_angles(student, teacher), few)


@pytest.mark.parametrize("relation", [relational_distances, relational_angles])
@pytest.mark.parametrize("same", [2, 3, 4])
def test_images_with_the_same_features_leave_gradients_small(relation: object, same: int) -> None:
    # Given a batch in which some images, or all, have the same features
    vectors = drawn(4, 3, seed=0)
    vectors[:same] = vectors[0]
    student = vectors.requires_grad_()
    # When relations are compared / Then the gradient is a number, and none that would throw a training off
    assert callable(relation)
    relation(student, drawn(4, 3, seed=1)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert float(student.grad.abs().max()) < 10


def test_two_images_make_no_angle() -> None:
    assert float(relational_angles(drawn(2, 3, seed=0), drawn(2, 3, seed=1))) == 0


def test_contrast_finds_the_own_image_among_the_batch_from_both_sides() -> None:
    # Given vectors of one width
    student, teacher = drawn(4, 3, seed=0), drawn(4, 3, seed=1)
    ours, theirs = ([unit(row) for row in rows.tolist()] for rows in (student, teacher))
    table = [[dot(a, b) / 0.5 for b in theirs] for a in ours]
    # When they are contrasted / Then it is the mean cross-entropy along rows and along columns
    rows = [log(sum(map(exp, row))) - row[i] for i, row in enumerate(table)]
    columns = [log(sum(exp(row[i]) for row in table)) - table[i][i] for i in range(4)]
    found = contrast(student, teacher, temperature=0.5)
    assert float(found) == pytest.approx((sum(rows) + sum(columns)) / 8, abs=1e-6)
