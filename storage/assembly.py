"""Rows put together to the jobs that clients read."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, Table, func, select, tuple_

from contract.artifact import Artifact
from contract.job import Job, JobState, JobStep, QueuePlace, StateReason
from storage import requirements
from storage.columns import seconds_from_now
from storage.schema import artifacts, job_needs, job_steps, jobs, workers

P = TypeVar("P")


@dataclass(frozen=True)
class _Surroundings:
    """What belongs to a number of jobs, by job id."""

    steps: dict[str, list[JobStep]]
    artifacts: dict[str, list[Artifact]]
    positions: dict[str, int]
    #: Queued jobs that a live worker can run.
    runnable: frozenset[str]


def assemble(connection: Connection, rows: Sequence[Row[Any]], *, live_seconds: float) -> tuple[Job, ...]:
    """The jobs of these rows of `jobs`, in order, by a number of queries that does not grow with them."""
    ids = [row.id for row in rows]
    queued = [row.id for row in rows if row.state == JobState.QUEUED]
    around = _Surroundings(
        steps=_by_job(connection, job_steps, ids, job_steps.c.position, read=_step),
        artifacts=_by_job(connection, artifacts, ids, artifacts.c.filename, read=artifact),
        positions=_positions(connection, queued) if queued else {},
        runnable=_runnable(connection, queued, live_seconds) if queued else frozenset(),
    )
    return tuple(_job(row, around) for row in rows)


def artifact(row: Row[Any]) -> Artifact:
    """A row of `artifacts` as the contract has it."""
    return Artifact(
        id=row.id,
        filename=row.filename,
        format=row.format,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        verified=row.verified,
        fastest=row.fastest,
        partial=row.partial,
        created_at=row.created_at,
    )


def _step(row: Row[Any]) -> JobStep:
    return JobStep(
        method=row.method,
        state=row.state,
        started_at=row.started_at,
        finished_at=row.finished_at,
        report=row.report,
    )


def _by_job(
    connection: Connection, table: Table, ids: Sequence[str], order: Column[Any], *, read: Callable[[Row[Any]], P]
) -> dict[str, list[P]]:
    found: dict[str, list[P]] = defaultdict(list)
    query = select(table).where(table.c.job_id.in_(ids)).order_by(table.c.job_id, order)
    for row in connection.execute(query):
        found[row.job_id].append(read(row))
    return found


def _positions(connection: Connection, queued: Sequence[str]) -> dict[str, int]:
    ahead = jobs.alias("ahead")
    earlier = tuple_(ahead.c.lane, ahead.c.created_at, ahead.c.id) < tuple_(jobs.c.lane, jobs.c.created_at, jobs.c.id)
    count = select(func.count()).select_from(ahead).where(ahead.c.state == JobState.QUEUED, earlier).scalar_subquery()
    rows = connection.execute(select(jobs.c.id, count.label("place")).where(jobs.c.id.in_(queued)))
    return {row.id: row.place for row in rows}


def _runnable(connection: Connection, queued: Sequence[str], live_seconds: float) -> frozenset[str]:
    query = select(workers.c.card).where(workers.c.seen_at > seconds_from_now(-live_seconds))
    offers = [requirements.offers(card) for card in connection.execute(query).scalars()]
    needs: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(select(job_needs).where(job_needs.c.job_id.in_(queued))):
        needs[row.job_id].add(row.need)
    return frozenset(job_id for job_id in queued if any(needs[job_id] <= offer for offer in offers))


def _reason(row: Row[Any], around: _Surroundings) -> StateReason | None:
    if row.state == JobState.RUNNING:
        return None if row.cancel_requested_at is None else StateReason.CANCEL_REQUESTED
    if row.state != JobState.QUEUED:
        return None
    if row.id not in around.runnable:
        return StateReason.NO_WORKER
    return StateReason.WAITING if row.reason is None else StateReason(row.reason)


def _job(row: Row[Any], around: _Surroundings) -> Job:
    state = JobState(row.state)
    return Job(
        id=row.id,
        state=state,
        done=state.done,
        state_reason=_reason(row, around),
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        progress=row.progress,
        queue=QueuePlace(position=around.positions.get(row.id)),
        spec=row.spec,
        steps=tuple(around.steps.get(row.id, ())),
        report=row.report,
        outcome=row.outcome,
        constraints=row.constraints,
        warnings=row.warnings,
        artifacts=tuple(around.artifacts.get(row.id, ())),
        error=row.error,
        retry_of=row.retry_of,
        links={},
    )
