"""What reaches a method beside the candidate: data, device, seed, and the ways to tell how it goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.data.origin import Sight
from contract.failures import UnfitModel
from contract.report import NoticeCode
from contract.value import Json


@dataclass(frozen=True)
class TrainingState:
    """Where an interrupted training stood, after a whole number of epochs."""

    epochs_done: int
    #: Module, optimizer and average, by name.
    tensors: Mapping[str, Tensor]
    #: What is not a tensor: learning curves, optimizer steps.
    values: Mapping[str, Json]


class Checkpoints(Protocol):
    """Where a step leaves its state, so that it can go on after an interruption."""

    def resume(self) -> TrainingState | None:
        """The state in which this step was interrupted, once."""
        ...

    def save(self, state: TrainingState) -> None:
        """Keep this state; raises `Interrupted` after keeping it where the process has been asked to stop."""
        ...


class NoCheckpoints:
    """Keeps nothing: for notebooks and tests."""

    def resume(self) -> TrainingState | None:
        """Nothing was interrupted."""
        return None

    def save(self, state: TrainingState) -> None:
        """Nothing is kept."""


class Interrupted(Exception):
    """The process was asked to stop, and its last checkpoint is kept."""


def _silent_progress(fraction: float, phase: str) -> None:
    del fraction, phase


def _silent_record(name: str, value: Json) -> None:
    del name, value


def _silent_notice(code: NoticeCode, detail: str) -> None:
    del code, detail


def _no_stopwatch(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    raise ValueError(f"there is nothing to time {len(candidates)} candidates with")


def _no_evaluation(module: nn.Module, sights: Sequence[Sight]) -> None:
    del module, sights


@dataclass(frozen=True, kw_only=True)
class Context:
    """What one step may use."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    #: Of this step: derived from the job's seed and the step's index.
    seed: int = 0
    train: Images | None = None
    #: The calibration data, or else the training data.
    calibration: Images | None = None
    #: Models beside the one of the step, in eval mode on `device`, by `original` or model id; built when called.
    others: Mapping[str, Callable[[], Candidate]] = field(default_factory=dict)
    #: Takes the done fraction of this step (0 to 1) and a phase such as `epoch 2 of 3, 410.0 images/s`.
    progress: Callable[[float, str], None] = _silent_progress
    #: Keeps a detail for the step's report.
    record: Callable[[str, Json], None] = _silent_record
    #: Adds a warning to the step's report.
    notice: Callable[[NoticeCode, str], None] = _silent_notice
    #: Milliseconds that a batch takes each of these candidates, measured side by side.
    time: Callable[[Sequence[Candidate]], tuple[float, ...]] = _no_stopwatch
    #: Which of the evaluation images (N,) a network is right on, which is given them in these sights too; none where
    #: there are none with labels.
    right: Callable[[nn.Module, Sequence[Sight]], Tensor | None] = _no_evaluation
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)

    def other(self, name: str) -> Candidate:
        """The model of this name, for the caller to own; raises `UnfitModel` where there is none."""
        if name not in self.others:
            raise UnfitModel(f"There is no model {name} beside the one that the job works on.")
        return self.others[name]()
