"""Answers that are no numbers."""

from math import inf, nan

import pytest
import torch

from compressor.measure.finite import check_finite
from contract.failures import UnfitModel


def test_answers_that_are_no_numbers_are_counted() -> None:
    # Given answers to three inputs, two of which are not finite / When they are checked / Then the failure counts them
    check_finite(torch.ones(3, 2))
    with pytest.raises(UnfitModel, match="2 of 3 inputs with NaN or infinity"):
        check_finite(torch.tensor([[0.0, nan], [1.0, 2.0], [inf, inf]]))
