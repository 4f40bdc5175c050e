"""Five numbers that tell a distribution."""

import pytest
import torch

from compressor.measure.quartiles import quartiles


def test_a_few_numbers_are_told_exactly() -> None:
    assert quartiles(torch.tensor([[4.0, 0.0], [1.0, 3.0]])) == [0.0, 0.75, 2.0, 3.25, 4.0]


def test_of_very_many_numbers_the_ends_are_exact_and_the_quartiles_close() -> None:
    # Given more numbers than are ranked, with one far from the others
    numbers = torch.rand(3_000_001, generator=torch.Generator().manual_seed(0))
    numbers[1_234_567] = -7.0
    # When they are told / Then nothing far is lost
    least, lower, median, upper, most = quartiles(numbers)
    assert least == -7.0
    assert most == pytest.approx(float(numbers.max()), abs=1e-4)
    assert [lower, median, upper] == pytest.approx([0.25, 0.5, 0.75], abs=0.01)
