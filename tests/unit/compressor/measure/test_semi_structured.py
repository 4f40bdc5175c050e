"""Which zeros a GPU's kernels could use; what they make of them is seen in tests/gpu."""

import pytest
import torch
from torch import Tensor

from compressor.measure.semi_structured import is_refusal, is_two_of_four

PAIRS = torch.tensor([[True, False, True, False, False, False, True, True]])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (PAIRS, True),
        (torch.zeros(2, 8, dtype=torch.bool), True),
        (torch.tensor([[True, True, True, False, False, False, False, False]]), False),
        (PAIRS[:, :6], False),
        (PAIRS.view(1, 8, 1, 1), False),
    ],
    ids=["two of four", "fewer", "three of four", "no multiple of four", "a convolution"],
)
def test_two_of_four_neighbours_are_told(mask: Tensor, expected: bool) -> None:
    assert is_two_of_four(mask) is expected


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (NotImplementedError("`view` is not implemented for SparseSemiStructuredTensor"), True),
        (RuntimeError("view size is not compatible with input tensor's size and stride"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
    ],
    ids=["an operator", "a layout", "a full device", "a failed device"],
)
def test_what_kernels_refuse_is_told_from_what_goes_wrong(error: RuntimeError, refused: bool) -> None:
    assert is_refusal(error) is refused
