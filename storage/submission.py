"""A job's way into the queue."""

from sqlalchemy import Connection, Table, insert, select

from contract.job import EventKind, JobState, StepState
from contract.ring import queue_of
from contract.spec import JobSpec, Priority
from storage import requirements
from storage.columns import now, seconds_from_now
from storage.identity import Kind, new_id
from storage.schema import job_inputs, job_labels, job_needs, job_steps, jobs
from storage.transitions import ring, tell
from storage.values import NewJob


def submit(connection: Connection, new: NewJob, *, ring_again_seconds: float) -> str:
    """Write a queued job with its first event and its ring; returns the id.

    Raises `NotFound` and `NotReady`, with a pointer, for resources that the spec names.
    """
    held = requirements.hold_inputs(connection, new.tenant, new.spec)
    job_id = new_id(Kind.JOB)
    _insert_job(connection, job_id, new, ring_again_seconds)
    _insert_parts(connection, job_id, new.spec, held)
    tell(
        connection,
        connection.execute(select(jobs).where(jobs.c.id == job_id)).one(),
        EventKind.CREATED,
        {"state": JobState.QUEUED.value},
    )
    ring(connection, [queue_of(new.spec.device)])
    return job_id


def _insert_job(connection: Connection, job_id: str, new: NewJob, ring_again_seconds: float) -> None:
    spec = new.spec
    statement = insert(jobs).values(
        id=job_id,
        tenant=new.tenant,
        state=JobState.QUEUED.value,
        lane=Priority.HIGH - Priority[spec.priority.upper()],
        device=queue_of(spec.device),
        spec=spec,
        spec_hash=requirements.fingerprint(spec),
        model_id=requirements.model_of(spec),
        retry_of=new.retry_of,
        created_at=now(),
        available_at=now(),
        queue_until=seconds_from_now(spec.limits.max_queue_seconds),
        run_seconds=spec.limits.max_run_seconds,
        keep_seconds=spec.expires_after,
        attempt=0,
        fence=0,
        ring_at=seconds_from_now(ring_again_seconds),
        times_rung=1,
        progress_told=True,
        constraints=(),
        warnings=(),
        last_event=1,
        log_bytes=0,
    )
    connection.execute(statement)


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
            connection.execute(insert(table), [{"job_id": job_id, **row} for row in rows])
