"""Batches: every image once, in batches as even as can be."""

import pytest
import torch

from tests.unit.compressor.small_jobs import images


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (1, 4, [1]),
        (4, 4, [4]),
        (5, 4, [3, 2]),
        (65, 32, [22, 22, 21]),
        (7, 2, [3, 2, 2]),
        (96, 32, [32, 32, 32]),
    ],
)
def test_batches_are_few_and_even(count: int, size: int, sizes: list[int]) -> None:
    # Given so many images / When they are parted / Then
    data = images(count, seed=0)
    assert data.batch_sizes(size) == sizes
    assert [len(batch.y) for batch in data.batches(size)] == sizes


def test_every_image_comes_once_in_an_order_of_its_epoch() -> None:
    # Given images / When two epochs are drawn
    data = images(21, seed=0)
    first, second = (
        torch.cat([batch.index for batch in data.batches(4, seed=5, epoch=epoch)]).tolist() for epoch in (0, 1)
    )
    # Then each has all of them, in another order
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second
