"""Which weights share a fate, and which compete."""

import pytest
import torch
from torch import Tensor

from compressor.sparsity.patterns import Pattern

SHAPES = {"unstructured": (3, 5, 2, 2), "filters": (4, 3, 2, 2), "1x4": (3, 8, 2, 2), "4x1": (8, 3, 1, 1)}


def weight(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_pieces_are_means_and_spread_tells_each_weight(name: str, shape: tuple[int, ...]) -> None:
    # Given scores / When they are pooled, and each piece's mean is told to its weights
    pattern, scores = Pattern.named(name), weight(*shape)
    pooled = pattern.pooled(scores)
    told = pattern.spread(pooled, scores.shape)
    # Then the sum stays, and the pieces are those that the name says
    size = {"unstructured": 1, "filters": scores[0].numel(), "1x4": 4, "4x1": 4}[name]
    assert pooled.numel() * size == scores.numel()
    assert float(told.sum()) == pytest.approx(float(scores.sum()), rel=1e-5)
    # And pooling what was told gives the same
    assert torch.allclose(pattern.pooled(told), pooled)


def test_a_block_of_one_by_four_lies_along_the_inputs() -> None:
    # Given a convolution's scores / When blocks are told apart by number
    shape = torch.Size((2, 8, 3, 3))
    pieces = torch.arange(2 * 2 * 9)
    told = Pattern.named("1x4").spread(pieces, shape)
    # Then four consecutive inputs of one output and one kernel position have the same number, and no others
    for start in (0, 4):
        block = told[:, start : start + 4]
        assert (block == block[:, :1]).all()
    assert len(told[:, ::4].unique()) == len(pieces)


def test_a_block_of_four_by_one_lies_along_the_outputs() -> None:
    told = Pattern.named("4x1").spread(torch.arange(2 * 3), torch.Size((8, 3)))
    assert (told[:4] == told[0]).all()
    assert (told[4:] == told[4]).all()
    assert len(told.unique()) == 6


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (3, 5)])
def test_n_of_every_m_inputs_stay_and_they_are_the_highest(n: int, m: int) -> None:
    # Given scores of a convolution / When N of M are kept
    scores = weight(3, 2 * m, 3, 3)
    kept = Pattern.named(f"{n}:{m}").kept(scores)
    # Then of every M consecutive inputs at one kernel position exactly N stay, and no other of them scores higher
    for start in (0, m):
        group, mask = scores[:, start : start + m], kept[:, start : start + m]
        assert (mask.sum(1) == n).all()
        lowest_kept = group.masked_fill(~mask, 2.0).min(1).values
        highest_cut = group.masked_fill(mask, -1.0).max(1).values
        assert (lowest_kept >= highest_cut).all()


@pytest.mark.parametrize(
    ("name", "shape", "fits"),
    [
        ("2:4", (64, 3, 7, 7), False),
        ("2:4", (32, 1, 3, 3), False),
        ("2:4", (64, 64, 3, 3), True),
        ("4:8", (10, 12), False),
        ("1x4", (64, 3, 7, 7), False),
        ("4x1", (10, 512), False),
        ("4x1", (12, 5), True),
        ("filters", (10, 3, 1, 1), True),
        ("unstructured", (7, 7), True),
    ],
)
def test_what_cannot_be_cut_into_pieces_does_not_fit(name: str, shape: tuple[int, ...], fits: bool) -> None:
    assert Pattern.named(name).fits(torch.empty(shape)) is fits
