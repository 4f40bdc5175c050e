"""What supervisor and runner say survives the pipe, and nothing else is understood."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from contract.failures import UnfitModel
from contract.job import Progress
from contract.methods.prune import PruneWeights
from contract.model import Architecture, ModelFormat, Preprocessing
from contract.spec import JobSpec
from worker.messages import (
    Assignment,
    CheckpointLeft,
    Failed,
    FromRunner,
    Interrupted,
    Progressed,
    StagedModel,
    StepStarted,
    StopPlease,
    Warm,
    line,
    read_order,
    read_word,
)

PROGRESS = Progress(fraction=0.5, step_count=1, phase="epoch 1 of 2\nand a line", updated_at=datetime.now(UTC))


@pytest.mark.parametrize(
    "word",
    [
        Warm(),
        Interrupted(),
        Progressed(progress=PROGRESS),
        StepStarted(index=0),
        CheckpointLeft(file="1.zip", position={"epochs_done": 3}),
        Failed(problem=UnfitModel(layer="fc", step_index=1).problem()),
    ],
)
def test_a_word_is_one_line_and_reads_as_it_was_said(word: FromRunner) -> None:
    # Given / When
    said = line(word)
    # Then
    assert said.count(b"\n") == 1
    assert read_word(said) == word


def test_an_assignment_keeps_the_params_of_each_step() -> None:
    # Given
    spec = JobSpec.model_validate(
        {
            "model": {"architecture": {"name": "resnet18"}, "weights": "none"},
            "steps": [{"method": "prune_weights", "amount": 0.25, "include": ["conv1"]}],
        }
    )
    model = StagedModel(
        architecture=Architecture(name="resnet18"),
        format=ModelFormat.SAFETENSORS,
        preprocessing=Preprocessing(size=(8, 8), mean=(0.5,), std=(0.5,)),
        classes=None,
        weights=None,
    )
    assignment = Assignment(spec=spec, model=model, datasets={}, others={}, threads=1, device="cpu", resume=None)
    # When
    heard = read_order(line(assignment))
    # Then
    assert heard == assignment
    assert isinstance(heard, Assignment)
    assert isinstance(heard.spec.steps[0], PruneWeights)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".hidden", "a/b", "a\x00b", ""])
def test_a_checkpoint_outside_of_its_folder_cannot_be_said(name: str) -> None:
    # Given / When / Then
    with pytest.raises(ValidationError):
        read_word(f'{{"kind": "checkpoint", "file": {name!r}, "position": {{}}}}'.replace("'", '"').encode())


def test_what_is_meant_for_the_runner_is_no_word_of_it() -> None:
    # Given / When / Then
    with pytest.raises(ValidationError):
        read_word(line(StopPlease()))
