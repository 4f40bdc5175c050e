"""What a job is to the compressor: an order, the desk it reports to, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from contract.artifact import ArtifactFile
from contract.dataset import DatasetFormat
from contract.job import JobResult, Progress
from contract.methods import Role
from contract.report import StepReport
from contract.spec import JobSpec
from contract.value import Json

if TYPE_CHECKING:
    # An order can be put together in a process that has not loaded torch.
    from compressor.models.source import ModelSource


@dataclass(frozen=True)
class ModelInput:
    """A model as it was uploaded."""

    source: ModelSource
    #: The weights' file; none where the architecture starts from nothing.
    weights: Path | None


@dataclass(frozen=True)
class DataInput:
    """A dataset as it was uploaded."""

    path: Path
    format: DatasetFormat


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that a job reads; no file is written to."""

    model: ModelInput
    datasets: Mapping[Role, DataInput] = field(default_factory=dict)
    #: Models beside the job's own, by the name under which a step asks for them.
    others: Mapping[str, ModelInput] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Order:
    """One job to be done."""

    spec: JobSpec
    inputs: Inputs
    #: Folder that receives the files to be delivered.
    out: Path
    #: Folder for whatever is needed on the way.
    scratch: Path
    #: Threads for torch and for the runtimes that are measured.
    threads: int
    #: `cpu` or `cuda`.
    device: str = "cpu"
    #: A checkpoint of an earlier attempt at the same spec.
    resume: Path | None = None
    #: Least time between two checkpoints within a step, in seconds.
    checkpoint_seconds: float = 30.0


class Desk(Protocol):
    """Who wants to know how it goes."""

    def progress(self, progress: Progress) -> None:
        """How far the job is; called often."""
        ...

    def step_started(self, index: int) -> None:
        """A step begins."""
        ...

    def step_succeeded(self, index: int, report: StepReport) -> None:
        """A step is done and measured."""
        ...

    def files_left(self, files: tuple[ArtifactFile, ...]) -> None:
        """These lie in `Order.out`, unproven, to be had should the job fail from here on; no others do."""
        ...

    def checkpoint(self, path: Path, position: dict[str, Json]) -> None:
        """Take this checkpoint; the file is overwritten or deleted once this returns."""
        ...

    def stop_requested(self) -> bool:
        """Whether the job shall stop at its next checkpoint."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a job that ended well leaves."""

    result: JobResult
    #: The files in `Order.out`, proven.
    files: tuple[ArtifactFile, ...]
