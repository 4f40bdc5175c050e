"""What the compressor's tests share: one small network, trained once."""

from pathlib import Path

import pytest
import torch

from compressor.report.document import ReportDocument
from tests.unit.compressor.sample_report import sample_document
from tests.unit.compressor.small_jobs import trained, write_weights


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks run faster on one thread, what is made once for many tests among them."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread_again() -> None:
    """A job takes as many threads as it is told; the next test finds one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small network that is right on about nine images in ten."""
    return write_weights(trained(), tmp_path_factory.mktemp("trained") / "weights.safetensors")


@pytest.fixture
def document() -> ReportDocument:
    """The report of one finished job."""
    return sample_document()
