from math import sqrt

import pytest
import torch
from torch import Tensor, nn

from compressor.measure.accuracy import Z, accuracy, answers, calibration_error, loss, paired_drop, wilson
from compressor.measure.fidelity import fidelity, sqnr_db
from tests.unit.compressor.small_jobs import images


def one_hot(classes: list[int], *, of: int = 3) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), of).float()


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_accuracy_is_counted_on_the_labels() -> None:
    # Given answers of which three of four are right
    found = accuracy(one_hot([0, 1, 2, 0]), torch.tensor([0, 1, 2, 2]))
    # Then the figure says so, with how many images it is from
    assert (found.value, found.n) == (0.75, 4)
    assert found.ci95[0] < 0.75 < found.ci95[1]


def test_the_calibration_error_is_that_of_the_paper() -> None:
    # Given answers of 90 % and of 60 % confidence, of which so many are right
    sure, unsure = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.4, 0.6]]).log()
    logits = torch.cat([sure.repeat(10, 1), unsure.repeat(10, 1)])
    labels = torch.tensor([0] * 7 + [1] * 3 + [1] * 6 + [0] * 4)
    # When its calibration error is asked for / Then half of the answers are 20 points too sure, and the others right
    assert calibration_error(logits, labels) == pytest.approx(0.1, abs=1e-6)
    # And being always right with no doubt is no error
    assert calibration_error(torch.tensor([[100.0, 0.0]]), torch.tensor([0])) == pytest.approx(0.0, abs=1e-6)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    # Given logits that give each of two classes the same chance
    assert loss(torch.zeros(5, 2), torch.tensor([0, 1, 0, 1, 1])) == pytest.approx(0.693147, abs=1e-6)


def test_a_drop_is_paired() -> None:
    # Given ten images, of which the first network is right on eight; the second loses three of them and wins one
    labels = torch.zeros(10, dtype=torch.int64)
    before = one_hot([0] * 8 + [1] * 2)
    after = one_hot([1] * 3 + [0] * 5 + [0, 1])
    # When they are compared
    drop = paired_drop(before, after, labels)
    # Then only the four images on which they differ make the interval (Bonett and Price 2012, eq. 4)
    assert (drop.value, drop.n) == (pytest.approx(0.2), 10)
    lost, won = 4 / 12, 2 / 12
    half = Z * sqrt((lost + won - (lost - won) ** 2) / 12)
    assert drop.ci95 == pytest.approx((lost - won - half, lost - won + half))


def test_no_difference_on_few_images_is_not_certainty() -> None:
    # Given two networks that answer the same on five images
    answer = one_hot([0, 1, 2, 0, 1])
    # Then the drop is none, but its interval is wide
    drop = paired_drop(answer, answer, torch.tensor([0, 1, 2, 0, 1]))
    assert drop.value == 0
    assert drop.ci95[0] < -0.2 < 0.2 < drop.ci95[1]


def test_answers_come_in_the_order_of_the_images() -> None:
    # Given more images than fit into one batch, and a network that answers with their mean tint
    data = images(100, seed=0)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # When it answers
    logits = answers(module, data)
    # Then each image has its answer in its place
    assert torch.allclose(logits, data.normalized(data.pixels).mean((2, 3)), atol=1e-5)


def test_fidelity_tells_how_far_answers_are_apart() -> None:
    # Given logits of which one row of four has another winner
    reference = one_hot([0, 1, 2, 0])
    other = reference.clone()
    other[3] = torch.tensor([0.9, 0.0, 1.0])
    # When they are compared
    found = fidelity(reference, other)
    # Then agreement, difference and ratio are those of the definition
    assert found.top1_agreement == 0.75
    assert found.max_abs_difference == pytest.approx(1.0)
    assert found.sqnr_db == pytest.approx(10 * torch.log10(torch.tensor(4 / 1.01)).item(), abs=1e-4)


def test_equal_answers_have_no_noise() -> None:
    assert fidelity(one_hot([0, 1]), one_hot([0, 1])).sqnr_db is None
    # And of numbers that overflow there is none to tell either
    assert sqnr_db(one_hot([0, 1]) * 1e38 * 1e38, one_hot([1, 0])) is None
