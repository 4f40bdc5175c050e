"""What goes into storage and what comes out, where the contract has no word for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from contract.artifact import ArtifactFile
from contract.dataset import Dataset
from contract.failures import Problem
from contract.job import JobResult, JobState
from contract.methods import Role
from contract.model import Model
from contract.spec import JobSpec
from contract.value import Json


@dataclass(frozen=True)
class Blob:
    """Bytes that are kept, by their content."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job before it is written; its spec resolved and valid."""

    tenant: str
    spec: JobSpec
    retry_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows; null and empty show all."""

    state: JobState | None = None
    #: A step of the job has this method.
    method: str | None = None
    #: The id of the model that the job compresses.
    model: str | None = None
    #: Every one of these labels stands on the job.
    metadata: Mapping[str, str] = field(default_factory=dict)


ALL_JOBS = JobFilter()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where an earlier attempt left off."""

    sha256: str
    size_bytes: int
    #: What the runner said of it when it was written.
    position: dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt at one job, held by one worker as long as its fence is the newest."""

    job_id: str
    tenant: str
    #: Goes up with every claim and every loss; what bears an older one is refused.
    fence: int
    attempt: int
    spec: JobSpec
    spec_hash: str
    #: Null where the spec names an architecture without weights.
    model: Model | None
    datasets: Mapping[Role, Dataset]
    #: Models that steps name beside the job's own, by id.
    others: Mapping[str, Model]
    #: When the job must have ended, on the database's clock.
    deadline: datetime
    #: The same as a duration from the claim, for a monotonic clock.
    seconds_left: float
    #: The newest checkpoint that this worker's version can go on from.
    resume: Checkpoint | None


@dataclass(frozen=True)
class Beat:
    """What a heartbeat brings back."""

    cancel_requested: bool
    #: The claim is no longer the newest: stop, nothing of it will be taken.
    lost: bool


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How an attempt ended."""

    state: Literal[JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED]
    #: The figures; null where there are none.
    result: JobResult | None = None
    #: Files whose bytes are already in the blob store; unproven ones bear `partial`.
    artifacts: tuple[ArtifactFile, ...] = ()
    #: Why it failed.
    error: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """The right to answer one request that bears an Idempotency-Key."""

    tenant: str
    key: str
    token: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer, kept to be given again."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class LogPart:
    """A stretch of a job's log."""

    content: bytes
    #: Where to read on.
    next_offset: int
