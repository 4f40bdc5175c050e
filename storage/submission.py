"""A job's way into the queue. Every client waits for these statements, so they are built once and not for each job."""

from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, insert

from contract.job import EventKind, JobState, StepState
from contract.ring import queue_of
from contract.spec import JobSpec, Priority
from storage import requirements
from storage.columns import microseconds_of, now
from storage.identity import Kind, new_id
from storage.schema import job_inputs, job_labels, job_needs, job_steps, jobs
from storage.transitions import ring, tell
from storage.values import NewJob

_INSERT_JOB = (
    insert(jobs)
    .values(
        state=JobState.QUEUED.value,
        created_at=now(),
        available_at=now(),
        queue_until=now() + bindparam("queue_microseconds"),
        ring_at=now() + bindparam("ring_again_microseconds"),
        attempt=0,
        fence=0,
        times_rung=1,
        progress_told=True,
        constraints=(),
        warnings=(),
        last_event=1,
        log_bytes=0,
    )
    .returning(jobs)
)
_INSERT_PART = {table: insert(table) for table in (job_steps, job_inputs, job_needs, job_labels)}


def submit(connection: Connection, new: NewJob, *, ring_again_seconds: float) -> Row[Any]:
    """Write a queued job with its first event and its ring; returns its row of `jobs`.

    Raises `NotFound` and `NotReady`, with a pointer, for resources that the spec names.
    """
    held = requirements.hold_inputs(connection, new.tenant, new.spec)
    row = _insert_job(connection, new, ring_again_seconds)
    _insert_parts(connection, row.id, new.spec, held)
    tell(connection, row, EventKind.CREATED, {"state": JobState.QUEUED.value})
    ring(connection, [row.device])
    return row


def _insert_job(connection: Connection, new: NewJob, ring_again_seconds: float) -> Row[Any]:
    spec = new.spec
    values = {
        "id": new_id(Kind.JOB),
        "tenant": new.tenant,
        "lane": Priority.HIGH - Priority[spec.priority.upper()],
        "device": queue_of(spec.device),
        "spec": spec,
        "spec_hash": requirements.fingerprint(spec),
        "model_id": requirements.model_of(spec),
        "retry_of": new.retry_of,
        "queue_microseconds": microseconds_of(spec.limits.max_queue_seconds),
        "ring_again_microseconds": microseconds_of(ring_again_seconds),
        "run_seconds": spec.limits.max_run_seconds,
        "keep_seconds": spec.expires_after,
    }
    return connection.execute(_INSERT_JOB, values).one()


def _insert_parts(connection: Connection, job_id: str, spec: JobSpec, held: frozenset[str]) -> None:
    pending = StepState.PENDING.value
    parts: dict[Table, list[dict[str, object]]] = {
        job_steps: [{"position": i, "method": step.method, "state": pending} for i, step in enumerate(spec.steps)],
        job_inputs: [{"resource_id": resource_id} for resource_id in sorted(held)],
        job_needs: [{"need": need} for need in sorted(requirements.needs(spec))],
        job_labels: [{"key": key, "value": value} for key, value in spec.metadata.items()],
    }
    for table, rows in parts.items():
        if rows:
            connection.execute(_INSERT_PART[table], [{"job_id": job_id, **row} for row in rows])
