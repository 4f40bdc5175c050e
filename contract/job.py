"""A job: its states and which may follow which, its progress, its steps and its end."""

from enum import StrEnum
from typing import Literal

from pydantic import Field, SerializeAsAny

from contract.artifact import Artifact
from contract.failures import Problem
from contract.report import Notice, Report, StepReport
from contract.spec import Constraint, JobSpec
from contract.value import Instant, Json, Links, Value


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def done(self) -> bool:
        """Whether the job has ended for good."""
        return not MAY_FOLLOW[self]


#: Which state may follow which; running goes back to queued when its worker is lost or shut down.
MAY_FOLLOW: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}


class StateReason(StrEnum):
    """Why a job is where it is, where the state alone does not say."""

    NO_WORKER = "no_worker"
    WAITING = "waiting"
    CANCEL_REQUESTED = "cancel_requested"
    WORKER_LOST = "worker_lost"
    WORKER_SHUT_DOWN = "worker_shut_down"
    #: Its process died without a word; it is tried once more.
    JOB_CRASHED = "job_crashed"


class Progress(Value):
    """How far a running job is."""

    #: Of the whole job, 0 to 1; never falls within an attempt.
    fraction: float = Field(ge=0, le=1)
    step_index: int | None = None
    step_count: int
    phase: str
    eta_seconds: float | None = None
    updated_at: Instant


class StepState(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class JobStep(Value):
    """One step of a job."""

    method: str
    state: StepState = StepState.PENDING
    started_at: Instant | None = None
    finished_at: Instant | None = None
    report: StepReport | None = None


class Verdict(Constraint):
    """A constraint, and what was found."""

    actual: float | None
    met: bool


class QueuePlace(Value):
    """Where a queued job stands in the queue."""

    #: 0 is next; null when it is not queued.
    position: int | None


class Job(Value):
    """A job as the client reads it."""

    id: str
    state: JobState
    #: Stays right whatever state is added: loop on this.
    done: bool
    state_reason: StateReason | None
    #: How often it was started.
    attempt: int
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    expires_at: Instant | None
    progress: Progress | None
    queue: QueuePlace
    spec: SerializeAsAny[JobSpec]
    steps: tuple[JobStep, ...]
    report: Report | None
    outcome: Literal["met", "unmet"] | None
    constraints: tuple[Verdict, ...]
    warnings: tuple[Notice, ...]
    artifacts: tuple[Artifact, ...]
    error: Problem | None
    retry_of: str | None
    links: Links


class JobResult(Value):
    """What a runner leaves when it ends well: the job's figures, but for the files."""

    report: Report
    outcome: Literal["met", "unmet"] | None = None
    constraints: tuple[Verdict, ...] = ()
    warnings: tuple[Notice, ...] = ()


class EventKind(StrEnum):
    """What an event tells."""

    CREATED = "job.created"
    STARTED = "job.started"
    REQUEUED = "job.requeued"
    PROGRESS = "job.progress"
    STEP_STARTED = "step.started"
    STEP_SUCCEEDED = "step.succeeded"
    CANCEL_REQUESTED = "job.cancel_requested"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"

    @property
    def is_last(self) -> bool:
        """Whether nothing follows it."""
        return self in (EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELED)


class Event(Value):
    """One line of a job's log of changes, numbered from 1."""

    number: int
    kind: EventKind
    created_at: Instant
    attempt: int
    data: dict[str, Json]
