"""Candidates are timed as files in ONNX Runtime."""

from pathlib import Path

from compressor.stopwatch import Stopwatch
from tests.unit.compressor.pruning.architectures import candidate


def test_candidates_are_timed_side_by_side_and_left_as_they_are(tmp_path: Path) -> None:
    # Given: two networks, one of which does fifty times as much
    small, large = candidate("squeezenet1_1", side=32), candidate("resnet18", side=96)
    small.module.train()

    # When: they are timed
    first, second = Stopwatch(scratch=tmp_path, batch_size=1, threads=1)([small, large])

    # Then: each has its own time, nothing of the measurement is left behind, and the networks are as they were
    assert 0 < first < second
    assert not list(tmp_path.iterdir())
    assert small.module.training
