"""What networks cost, by arithmetic alone."""

import pytest

from contract.cost import Macs, Sizes, Term


def test_strides_and_kernels_are_one_division() -> None:
    # Given a convolution 3x3 of stride 2 without padding, and a pool 3x3 of stride 2 with padding 1 behind it
    once = Term(macs=1, add=-1, per=2, power=1)
    twice = Term(macs=1, add=1, per=4, power=1)
    for side in range(3, 100):
        # When the maps' sides are computed layer by layer / Then the divisions tell the same
        first = (side - 3) // 2 + 1
        second = (first + 2 - 3) // 2 + 1
        assert once.at(side, 3) == first
        assert twice.at(side, side) == second**2


def test_attention_is_counted_for_pairs_and_heads_once() -> None:
    # Given multiply-accumulates for every pair of positions, and those behind the last pool
    pairs, last = Term(macs=7, per=4, power=2), Term(macs=5)
    # When an image has 6x3 of these positions / Then
    assert (pairs.at(24, 12), last.at(24, 12)) == (7 * 18**2, 5)


def test_channels_and_classes_multiply_what_is_theirs() -> None:
    # Given a convolution of 8 kernels of 3x3, and a head on 8 features
    macs = Macs(per_channel=(Term(72, 0, 1, 1),), per_class=(Term(8),), others=(Term(100, 0, 2, 1),))
    # When a gray image of 4x6 shall be one of ten classes / Then
    assert macs.at((1, 4, 6), 10) == 72 * 24 + 8 * 10 + 100 * 6


@pytest.mark.parametrize(
    ("sizes", "size", "words"),
    [
        (Sizes(only=(224, 224)), (64, 64), "224x224; no other size"),
        (Sizes(least=63), (64, 62), "63 pixels a side and more"),
        (Sizes(least=32, step=32), (64, 80), "multiples of 32"),
        (Sizes(square=True), (64, 80), "square images alone"),
    ],
    ids=str,
)
def test_what_is_not_taken_is_told(sizes: Sizes, size: tuple[int, int], words: str) -> None:
    # Given an image that a network does not take / When it is asked for / Then the sentence says what it takes
    told = sizes.refusal(*size)
    assert told is not None
    assert words in told


@pytest.mark.parametrize(
    ("sizes", "size"),
    [(Sizes(only=(1024, 768)), (1024, 768)), (Sizes(least=32, step=32), (32, 96)), (Sizes(square=True), (7, 7))],
    ids=str,
)
def test_what_is_taken_is_not_refused(sizes: Sizes, size: tuple[int, int]) -> None:
    # Given an image that a network takes / When it is asked for / Then there is nothing to say
    assert sizes.refusal(*size) is None
