"""Where a job stands, in one file: the candidates so far, the training underway, and what has been reported."""

import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.context import Interrupted, TrainingState
from contract.report import Notice, StepReport
from contract.value import Json, Value

_POSITION, _TRAINING, _CANDIDATES = "position.json", "training.safetensors", "candidates"


class TrainingPosition(Value):
    """A training underway, but for its tensors."""

    epochs_done: int
    values: dict[str, Json]


class Position(Value):
    """Which steps are done, and what the step underway has said so far. No random state: it follows from the seed."""

    reports: tuple[StepReport, ...] = ()
    training: TrainingPosition | None = None
    #: Of the step underway.
    details: dict[str, Json] = Field(default_factory=dict)
    warnings: tuple[Notice, ...] = ()
    seconds: float = 0.0

    @property
    def step_index(self) -> int:
        """The step that is underway or comes next."""
        return len(self.reports)


@dataclass(frozen=True)
class Checkpoint:
    """A position with the tensors that belong to it."""

    position: Position
    #: Of the training underway.
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def training(self) -> TrainingState | None:
        """The training underway, where there is one."""
        at = self.position.training
        return TrainingState(at.epochs_done, self.tensors, at.values) if at else None


def candidate_folder(scratch: Path, step_index: int) -> Path:
    """Where the candidate lies that a step has made."""
    return scratch / _CANDIDATES / str(step_index)


def write_checkpoint(path: Path, checkpoint: Checkpoint, scratch: Path) -> None:
    """Write the checkpoint and the candidates in `scratch` to `path`, uncompressed: weights do not compress."""
    tensors = path.with_suffix(".safetensors")
    # Cloned, because safetensors refuses tensors that share memory, as an average and its module may.
    save_file(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in checkpoint.tensors.items()}, tensors
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_POSITION, checkpoint.position.model_dump_json())
        archive.write(tensors, _TRAINING)
        for file in sorted((scratch / _CANDIDATES).rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(scratch).as_posix())
    tensors.unlink()


def read_checkpoint(path: Path, scratch: Path) -> Checkpoint:
    """The checkpoint at `path`; its candidates are laid into `scratch`, as they were."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(scratch)
    position = Position.model_validate_json((scratch / _POSITION).read_bytes())
    # Copied into memory that torch has aligned: on other addresses its kernels add in another order.
    return Checkpoint(position, {name: tensor.clone() for name, tensor in load_file(scratch / _TRAINING).items()})


class StepCheckpoints:
    """Keeps the training state of one step, from time to time."""

    def __init__(
        self,
        keep: Callable[[TrainingState], None],
        *,
        start: TrainingState | None,
        stop_requested: Callable[[], bool],
        every: float,
    ) -> None:
        self._keep, self._start, self._stop_requested, self._every = keep, start, stop_requested, every
        self._kept_at = time.monotonic()

    def resume(self) -> TrainingState | None:
        """The state in which this step was interrupted, once."""
        start, self._start = self._start, None
        return start

    def save(self, state: TrainingState) -> None:
        """Keep this state if the last one is old enough; raises Interrupted behind it where the job shall stop."""
        stopping = self._stop_requested()
        if stopping or time.monotonic() - self._kept_at >= self._every:
            self._keep(state)
            self._kept_at = time.monotonic()
        if stopping:
            raise Interrupted
