"""What the compressor's tests share: one small network, trained once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from compressor.report.document import ReportDocument
from tests.unit.compressor.sample_report import sample_document
from tests.unit.compressor.small_jobs import trained, write_weights


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks run faster on one thread, and sums come out the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small network that is right on about nine images in ten."""
    return write_weights(trained(), tmp_path_factory.mktemp("trained") / "weights.safetensors")


@pytest.fixture
def document() -> ReportDocument:
    """The report of one finished job."""
    return sample_document()
