"""The changes of a job: each is one UPDATE under a condition, and writes its event in the same transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, insert, update

from contract.failures import Problem
from contract.job import EventKind, JobState, StateReason, StepState
from contract.value import Json
from storage.columns import microseconds, microseconds_of, now, seconds_from_now
from storage.garbage import let_go
from storage.schema import checkpoints, events, job_steps, jobs, rings
from storage.values import Claim

_KIND_OF_END = {
    JobState.SUCCEEDED: EventKind.SUCCEEDED,
    JobState.FAILED: EventKind.FAILED,
    JobState.CANCELED: EventKind.CANCELED,
}

_INSERT_EVENT = insert(events).values(created_at=now())
_INSERT_RING = insert(rings).values(tries=0, due_at=now() + bindparam("delay_microseconds"))


def held(claim: Claim) -> ColumnElement[bool]:
    """That the claim is still the newest."""
    return and_(jobs.c.id == claim.job_id, jobs.c.fence == claim.fence, jobs.c.state == JobState.RUNNING)


def not_canceled() -> ColumnElement[bool]:
    """That nobody has asked to cancel the job."""
    return jobs.c.cancel_requested_at.is_(None)


def change(connection: Connection, where: ColumnElement[bool], **values: Any) -> Row[Any] | None:
    """Change the one job that meets the condition, with a number for the event; null where there is none."""
    statement = update(jobs).where(where).values(last_event=jobs.c.last_event + 1, **values)
    return connection.execute(statement.returning(jobs)).one_or_none()


def tell(connection: Connection, row: Row[Any], kind: EventKind, data: Mapping[str, Json]) -> None:
    """Write the event of a change."""
    told = {"kind": kind.value, "attempt": row.attempt, "data": dict(data)}
    connection.execute(_INSERT_EVENT, {"job_id": row.id, "number": row.last_event, **told})


def ring(connection: Connection, devices: Sequence[str], *, delay_seconds: float = 0) -> None:
    """Ask for one ring at the queue of each of these devices."""
    delay = microseconds_of(delay_seconds)
    if devices:
        connection.execute(_INSERT_RING, [{"device": device, "delay_microseconds": delay} for device in devices])


def end(
    connection: Connection,
    where: ColumnElement[bool],
    *,
    state: JobState,
    error: Problem | None = None,
    **values: Any,
) -> bool:
    """End the one job that meets the condition; false where there is none."""
    expires_at = now() + microseconds(jobs.c.keep_seconds)
    done = {"finished_at": now(), "expires_at": expires_at, "lease_until": None, "worker_id": None, "reason": None}
    row = change(connection, where, state=state.value, error=error, **done, **values)
    if row is None:
        return False
    cause: dict[str, Json] = {} if error is None else {"error": error.model_dump(mode="json", exclude_none=True)}
    tell(connection, row, _KIND_OF_END[state], {"state": state.value, **cause})
    _leave_steps(connection, row.id, StepState.CANCELED if state is JobState.CANCELED else StepState.FAILED)
    drop_checkpoint(connection, row.id)
    return True


def requeue(
    connection: Connection,
    where: ColumnElement[bool],
    *,
    reason: StateReason,
    ring_again_seconds: float,
    delay_seconds: float = 0,
    **values: Any,
) -> bool:
    """Put the one running job that meets the condition back into the queue; false where there is none."""
    free = {"worker_id": None, "lease_until": None, "fence": jobs.c.fence + 1, "times_rung": 1}
    due = {
        "available_at": seconds_from_now(delay_seconds),
        "ring_at": seconds_from_now(delay_seconds + ring_again_seconds),
    }
    row = change(connection, where, state=JobState.QUEUED.value, reason=reason.value, **free, **due, **values)
    if row is None:
        return False
    tell(connection, row, EventKind.REQUEUED, {"state": JobState.QUEUED.value, "reason": reason.value})
    _leave_steps(connection, row.id, StepState.PENDING)
    ring(connection, [row.device], delay_seconds=delay_seconds)
    return True


def drop_checkpoint(connection: Connection, job_id: str) -> None:
    """Forget where the job's attempts left off, and the bytes with it: only the start of an attempt reads them."""
    mine = delete(checkpoints).where(checkpoints.c.job_id == job_id)
    content = (checkpoints.c.tenant, checkpoints.c.sha256, checkpoints.c.created_at)
    row = connection.execute(mine.returning(*content)).one_or_none()
    if row is not None:
        let_go(connection, tenant=row.tenant, sha256=row.sha256, since=row.created_at)


def _leave_steps(connection: Connection, job_id: str, state: StepState) -> None:
    running = and_(job_steps.c.job_id == job_id, job_steps.c.state == StepState.RUNNING)
    times: dict[str, Any] = {"started_at": None} if state is StepState.PENDING else {"finished_at": now()}
    connection.execute(update(job_steps).where(running).values(state=state.value, **times))
