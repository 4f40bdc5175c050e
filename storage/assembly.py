"""Rows put together to the jobs that clients read."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Connection, Row, Select, bindparam, func, select, tuple_

from contract.artifact import Artifact
from contract.job import Job, JobState, JobStep, QueuePlace, StateReason
from storage import requirements
from storage.columns import microseconds_of, now
from storage.schema import artifacts, job_needs, job_steps, jobs, workers

P = TypeVar("P")

# Built once: building a statement takes longer than running it, and a job is assembled while others wait to be written.
_IDS: BindParameter[Sequence[str]] = bindparam("ids", expanding=True)
_AHEAD = jobs.alias("ahead")
_STEPS = select(job_steps).where(job_steps.c.job_id.in_(_IDS)).order_by(job_steps.c.job_id, job_steps.c.position)
_ARTIFACTS = select(artifacts).where(artifacts.c.job_id.in_(_IDS)).order_by(artifacts.c.job_id, artifacts.c.filename)
_NEEDS = select(job_needs).where(job_needs.c.job_id.in_(_IDS))
_LIVE_CARDS = select(workers.c.card).where(workers.c.seen_at > now() - bindparam("live_microseconds"))
_PLACE = (
    select(func.count())
    .select_from(_AHEAD)
    .where(
        _AHEAD.c.state == JobState.QUEUED,
        tuple_(_AHEAD.c.lane, _AHEAD.c.created_at, _AHEAD.c.id) < tuple_(jobs.c.lane, jobs.c.created_at, jobs.c.id),
    )
    .scalar_subquery()
)
_POSITIONS = select(jobs.c.id, _PLACE.label("place")).where(jobs.c.id.in_(_IDS))


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
        steps=_by_job(connection, _STEPS, ids, read=_step),
        artifacts=_by_job(connection, _ARTIFACTS, ids, read=artifact),
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
    connection: Connection, query: Select[Any], ids: Sequence[str], *, read: Callable[[Row[Any]], P]
) -> dict[str, list[P]]:
    found: dict[str, list[P]] = defaultdict(list)
    for row in connection.execute(query, {"ids": ids}):
        found[row.job_id].append(read(row))
    return found


def _positions(connection: Connection, queued: Sequence[str]) -> dict[str, int]:
    return {row.id: row.place for row in connection.execute(_POSITIONS, {"ids": queued})}


def _runnable(connection: Connection, queued: Sequence[str], live_seconds: float) -> frozenset[str]:
    live = {"live_microseconds": microseconds_of(live_seconds)}
    offers = [requirements.offers(card) for card in connection.execute(_LIVE_CARDS, live).scalars()]
    needs: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(_NEEDS, {"ids": queued}):
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
