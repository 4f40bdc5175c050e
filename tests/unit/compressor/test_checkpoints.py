import zipfile
from pathlib import Path

import pytest
import torch

from compressor.checkpoints import (
    Checkpoint,
    Position,
    StepCheckpoints,
    TrainingPosition,
    candidate_folder,
    read_checkpoint,
    write_checkpoint,
)
from compressor.context import Interrupted, TrainingState
from contract.report import Notice


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    # Given a job in its second step, with a candidate behind the first and tensors that share memory
    candidate_folder(tmp_path / "a", 0).mkdir(parents=True)
    (candidate_folder(tmp_path / "a", 0) / "model.safetensors").write_bytes(b"weights")
    weight = torch.randn(4, 4)
    position = Position(
        training=TrainingPosition(epochs_done=3, values={"loss": [0.5, 0.25]}),
        details={"layers": ["conv1"]},
        warnings=(Notice(code="layers_left_alone", detail="One was."),),
        seconds=12.5,
    )
    tensors = {"module.weight": weight, "average.weight": weight, "optimizer.step": weight.T}
    # When its checkpoint is written, and read by another attempt
    write_checkpoint(tmp_path / "c.zip", Checkpoint(position, tensors), tmp_path / "a")
    (tmp_path / "b").mkdir()
    read = read_checkpoint(tmp_path / "c.zip", tmp_path / "b")
    # Then everything is there
    assert read.position == position
    assert all(torch.equal(read.tensors[name], tensors[name]) for name in tensors)
    assert (candidate_folder(tmp_path / "b", 0) / "model.safetensors").read_bytes() == b"weights"
    assert read.training is not None
    assert (read.training.epochs_done, read.training.values) == (3, {"loss": [0.5, 0.25]})
    # And nothing was compressed, since weights do not become smaller
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def state(epochs: int) -> TrainingState:
    return TrainingState(epochs, {}, {})


def test_states_are_kept_from_time_to_time() -> None:
    # Given checkpoints that are due every hour
    kept: list[int] = []
    rare = StepCheckpoints(lambda s: kept.append(s.epochs_done), start=None, stop_requested=lambda: False, every=3600)
    # When three epochs end within a moment, then none is written
    for epoch in (1, 2, 3):
        rare.save(state(epoch))
    assert kept == []
    # And where they are due at once, each is
    often = StepCheckpoints(lambda s: kept.append(s.epochs_done), start=None, stop_requested=lambda: False, every=0)
    for epoch in (1, 2, 3):
        often.save(state(epoch))
    assert kept == [1, 2, 3]


def test_who_is_asked_to_stop_keeps_the_state_first() -> None:
    # Given a job that is asked to stop long before a checkpoint is due
    kept: list[int] = []
    checkpoints = StepCheckpoints(
        lambda s: kept.append(s.epochs_done), start=None, stop_requested=lambda: True, every=3600
    )
    # When an epoch ends, then its state is kept and the step is left
    with pytest.raises(Interrupted):
        checkpoints.save(state(5))
    assert kept == [5]


def test_a_training_resumes_once() -> None:
    # Given a step that was interrupted after two epochs
    checkpoints = StepCheckpoints(lambda _: None, start=state(2), stop_requested=lambda: False, every=0)
    # Then the first training in it goes on from there, and a second one starts anew
    resumed = checkpoints.resume()
    assert resumed is not None
    assert resumed.epochs_done == 2
    assert checkpoints.resume() is None
