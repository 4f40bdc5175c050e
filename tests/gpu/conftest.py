"""These tests need a CUDA device; elsewhere they are skipped."""

import pytest
import torch


@pytest.fixture(autouse=True)
def cuda() -> torch.device:
    """The device."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device("cuda")
