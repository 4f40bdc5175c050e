"""The distances of features are those of the papers, written out here image by image."""

from itertools import combinations, permutations, product
from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor

from compressor.distillation.comparing import Hint, Relations
from compressor.distillation.feature import Feature, Pair
from compressor.distillation.features import (
    ANGLE_IMAGES,
    attention,
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


def pair(student: tuple[int, ...], teacher: tuple[int, ...]) -> Pair:
    """Layers that give out features of these shapes for an image of 8x8."""
    return Pair(Feature("student", student, (8, 8)), Feature("teacher", teacher, (8, 8)))


def test_a_hint_is_the_mean_square_behind_the_convolution_at_the_smaller_size() -> None:
    # Given maps of three channels in 4x4 places, and of five in 2x2
    student, teacher = drawn(2, 3, 4, 4, seed=0), drawn(2, 5, 2, 2, seed=1)
    hint = Hint(pair((3, 4, 4), (5, 2, 2))).double()
    weight, bias = drawn(5, 3, seed=2), drawn(5, seed=3)
    hint.adapter.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})

    def at(image: int, channel: int, y: int, x: int) -> float:
        """The convolution of the student's means over the four places that are one of the teacher's."""
        quarters = [[float(one[2 * y + i, 2 * x + j]) for i in (0, 1) for j in (0, 1)] for one in student[image]]
        return dot(weight[channel].tolist(), [sum(four) / 4 for four in quarters]) + float(bias[channel])

    # When they are compared / Then it is the mean over images, channels and places
    places = list(product(range(2), range(5), range(2), range(2)))
    expected = sum((at(*place) - float(teacher[place])) ** 2 for place in places) / len(places)
    assert float(hint(student, hint.told(teacher)).detach()) == pytest.approx(expected, abs=1e-6)


def test_a_hint_of_the_same_width_learns_nothing() -> None:
    # Given maps of one shape / When they are compared / Then it is their mean squared difference
    student, teacher = drawn(2, 3, 2, 2, seed=0), drawn(2, 3, 2, 2, seed=1)
    hint = Hint(pair((3, 2, 2), (3, 2, 2)))
    differences = less(student.flatten().tolist(), teacher.flatten().tolist())
    assert float(hint(student, hint.told(teacher))) == pytest.approx(dot(differences, differences) / 24, abs=1e-6)
    assert not list(hint.parameters())


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_attention_is_the_sum_over_channels_of_powers_at_length_one(power: float) -> None:
    # Given maps of other widths
    student, teacher = drawn(3, 4, 2, 5, seed=0), drawn(3, 6, 2, 5, seed=1)

    def expected(image: list[list[list[float]]]) -> Vector:
        return unit([sum(abs(c[y][x]) ** power for c in image) for y in range(2) for x in range(5)])

    # When their attention is compared / Then it is the mean squared distance of the unit vectors
    ways = [less(expected(a), expected(b)) for a, b in zip(student.tolist(), teacher.tolist(), strict=True)]
    found = attention_transfer(attention(student, power=power), attention(teacher, power=power))
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


def distances(vectors: list[Vector]) -> Vector:
    """Of every two, in units of their mean."""
    found = [sqrt(dot(less(a, b), less(a, b))) for a, b in combinations(vectors, 2)]
    return [one / (sum(found) / len(found)) for one in found]


def angles(vectors: list[Vector]) -> Vector:
    """The cosine at the second of three, for every three in every order."""
    return [dot(unit(less(i, j)), unit(less(k, j))) for i, j, k in permutations(vectors, 3)]


def test_relational_distances_are_in_units_of_their_mean() -> None:
    # Given vectors of other widths
    student, teacher = drawn(5, 3, seed=0), 9 * drawn(5, 7, seed=1)
    # When they are compared / Then it is Huber's loss, mean over the pairs
    differences = less(distances(student.tolist()), distances(teacher.tolist()))
    expected = sum(map(huber, differences)) / len(differences)
    assert float(relational_distances(student, teacher)) == pytest.approx(expected, abs=1e-6)


def test_relational_angles_are_between_every_three_images() -> None:
    # Given vectors of other widths
    student, teacher = drawn(5, 3, seed=0), drawn(5, 7, seed=1)
    # When they are compared / Then it is Huber's loss, mean over the triplets
    differences = less(angles(student.tolist()), angles(teacher.tolist()))
    expected = sum(map(huber, differences)) / len(differences)
    assert float(relational_angles(student, teacher)) == pytest.approx(expected, abs=1e-6)


def test_relations_are_the_weighted_sum_of_both_on_means_over_places() -> None:
    # Given a student's maps, and a teacher's vectors
    student, teacher = drawn(5, 3, 2, 2, seed=0), drawn(5, 7, seed=1)
    means = [[sum(channel.flatten().tolist()) / 4 for channel in image] for image in student]
    # When they are compared with factors for distances and angles / Then it is the sum of both, each with its factor
    far = less(distances(means), distances(teacher.tolist()))
    turned = less(angles(means), angles(teacher.tolist()))
    expected = 3 * sum(map(huber, far)) / len(far) + 0.5 * sum(map(huber, turned)) / len(turned)
    relations = Relations(pair((3, 2, 2), (7,)), distance=3.0, angle=0.5)
    assert float(relations(student, relations.told(teacher))) == pytest.approx(expected, abs=1e-6)


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
