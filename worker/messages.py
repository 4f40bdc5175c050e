"""What a supervisor and its runner say to each other: frozen values, one JSON line each."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from contract.artifact import ArtifactFile
from contract.dataset import DatasetFormat
from contract.failures import Problem
from contract.job import JobResult, Progress
from contract.methods import Role
from contract.model import Architecture, ModelFormat, Preprocessing
from contract.report import StepReport
from contract.spec import JobSpec
from contract.value import Json, Value

#: The longest line that either side takes, in bytes: a step's report on a network of thousands of layers fits.
MAX_LINE_BYTES = 16 * 1024**2

#: A name of a file that lies directly in the folder which both sides know.
PlainName = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class StagedModel(Value):
    """A model as it lies in the runner's folder."""

    architecture: Architecture
    format: ModelFormat
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    #: In the folder `in`; none where the architecture starts from nothing.
    weights: PlainName | None


class StagedData(Value):
    """A dataset as it lies in the runner's folder."""

    file: PlainName
    format: DatasetFormat


class Assignment(Value):
    """To the runner, first and once: the job to do."""

    kind: Literal["assignment"] = "assignment"
    spec: JobSpec
    model: StagedModel
    datasets: dict[Role, StagedData]
    #: Models beside the job's own, by the name under which a step asks for them.
    others: dict[str, StagedModel]
    threads: int
    device: str
    #: A checkpoint of an earlier attempt, in the folder `in`.
    resume: PlainName | None


class StopPlease(Value):
    """To the runner: leave a checkpoint and end."""

    kind: Literal["stop"] = "stop"


class Warm(Value):
    """From the runner: torch is loaded."""

    kind: Literal["warm"] = "warm"


class Progressed(Value):
    """From the runner: how far it is."""

    kind: Literal["progress"] = "progress"
    progress: Progress


class StepStarted(Value):
    """From the runner: a step begins."""

    kind: Literal["step_started"] = "step_started"
    index: int = Field(ge=0)


class StepSucceeded(Value):
    """From the runner: a step is done and measured."""

    kind: Literal["step_succeeded"] = "step_succeeded"
    index: int = Field(ge=0)
    report: StepReport


class FilesLeft(Value):
    """From the runner: these lie in the folder `out`, unproven, to be had should the job fail from here on."""

    kind: Literal["files_left"] = "files_left"
    files: tuple[ArtifactFile, ...]


class CheckpointLeft(Value):
    """From the runner: a checkpoint lies in the folder `checkpoints`, for the supervisor to keep and delete."""

    kind: Literal["checkpoint"] = "checkpoint"
    file: PlainName
    position: dict[str, Json]


class Finished(Value):
    """From the runner, last: the job ended well and its files lie in the folder `out`."""

    kind: Literal["finished"] = "finished"
    result: JobResult
    files: tuple[ArtifactFile, ...]


class Failed(Value):
    """From the runner, last: the job cannot be done; what lies in `out` is unproven."""

    kind: Literal["failed"] = "failed"
    problem: Problem
    files: tuple[ArtifactFile, ...] = ()


class Interrupted(Value):
    """From the runner, last: it was asked to stop, and its last checkpoint has been told."""

    kind: Literal["interrupted"] = "interrupted"


#: Down the runner's standard input.
ToRunner = Assignment | StopPlease
#: Up the runner's own pipe.
FromRunner = (
    Warm | Progressed | StepStarted | StepSucceeded | FilesLeft | CheckpointLeft | Finished | Failed | Interrupted
)

_to_runner: TypeAdapter[ToRunner] = TypeAdapter(Annotated[ToRunner, Field(discriminator="kind")])
_from_runner: TypeAdapter[FromRunner] = TypeAdapter(Annotated[FromRunner, Field(discriminator="kind")])


def line(message: ToRunner | FromRunner) -> bytes:
    """The message as it goes through the pipe."""
    return message.model_dump_json().encode() + b"\n"


def read_order(raw: bytes) -> ToRunner:
    """The supervisor's word; raises `pydantic.ValidationError` where it is none."""
    return _to_runner.validate_json(raw)


def read_word(raw: bytes) -> FromRunner:
    """The runner's word; raises `pydantic.ValidationError` where it is none."""
    return _from_runner.validate_json(raw)
