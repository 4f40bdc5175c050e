"""The claim: one compare-and-swap that gives the best queued job to one worker."""

from typing import Any

from sqlalchemy import Connection, Row, and_, exists, func, or_, select, update

from contract.dataset import Dataset
from contract.failures import SpecOutdated
from contract.job import EventKind, JobState
from contract.methods import Role
from contract.model import Model
from contract.spec import JobSpec
from contract.worker import WorkerCard
from storage import catalogue, requirements
from storage.columns import microseconds, now, seconds_from_now
from storage.outdated import check_current
from storage.schema import checkpoints, datasets, job_needs, jobs, models
from storage.transitions import end, tell
from storage.values import Checkpoint, Claim


def take(connection: Connection, card: WorkerCard, *, lease_seconds: float) -> Claim | None:
    """Start the best queued job that this worker can run: by priority, then by age.

    What an earlier version has accepted and this one cannot read fails on the way, and stops none behind it.
    """
    while (row := _start_best(connection, card, lease_seconds)) is not None:
        try:
            return _claim(connection, row, card)
        except SpecOutdated as failure:
            end(connection, jobs.c.id == row.id, state=JobState.FAILED, error=failure.problem())
    return None


def _start_best(connection: Connection, card: WorkerCard, lease_seconds: float) -> Row[Any] | None:
    values = {
        "state": JobState.RUNNING.value,
        "reason": None,
        "worker_id": card.id,
        "fence": jobs.c.fence + 1,
        "attempt": jobs.c.attempt + 1,
        "lease_until": seconds_from_now(lease_seconds),
        "started_at": func.coalesce(jobs.c.started_at, now()),
        "deadline_at": func.coalesce(jobs.c.deadline_at, now() + microseconds(jobs.c.run_seconds)),
        "last_event": jobs.c.last_event + 1,
    }
    best = and_(jobs.c.id == _best(card), jobs.c.state == JobState.QUEUED)
    statement = update(jobs).where(best).values(**values)
    left = ((jobs.c.deadline_at - now()) / 1_000_000.0).label("seconds_left")
    row = connection.execute(statement.returning(jobs, left)).one_or_none()
    if row is not None:
        begun = {"state": JobState.RUNNING.value, "fence": row.fence, "worker": card.id}
        tell(connection, row, EventKind.STARTED, begun)
    return row


def _best(card: WorkerCard) -> Any:
    waiting = jobs.alias("waiting")
    needs = and_(job_needs.c.job_id == waiting.c.id, job_needs.c.need.not_in(requirements.offers(card)))
    query = select(waiting.c.id).where(
        waiting.c.state == JobState.QUEUED,
        waiting.c.available_at <= now(),
        waiting.c.cancel_requested_at.is_(None),
        # What has waited or run too long is the keeper's to fail, also where the keeper is late.
        or_(waiting.c.started_at.is_not(None), waiting.c.queue_until > now()),
        or_(waiting.c.deadline_at.is_(None), waiting.c.deadline_at > now()),
        ~exists().where(needs),
    )
    ordered = query.order_by(waiting.c.lane, waiting.c.created_at, waiting.c.id).limit(1)
    # Whom another worker is just claiming is passed over, not waited for.
    return ordered.with_for_update(skip_locked=True, of=waiting).scalar_subquery()


def _claim(connection: Connection, row: Row[Any], card: WorkerCard) -> Claim:
    spec: JobSpec = row.spec
    check_current(spec)
    model_id = requirements.model_of(spec)
    others = {other for _, other in requirements.others_of(spec)}
    return Claim(
        job_id=row.id,
        tenant=row.tenant,
        fence=row.fence,
        attempt=row.attempt,
        spec=spec,
        spec_hash=row.spec_hash,
        model=None if model_id is None else _model(connection, model_id),
        datasets={Role(role): _dataset(connection, found) for role, found in spec.data if found is not None},
        others={other: _model(connection, other) for other in sorted(others)},
        deadline=row.deadline_at,
        seconds_left=row.seconds_left,
        resume=_resume(connection, row, code_version=card.version),
    )


def _model(connection: Connection, model_id: str) -> Model:
    return catalogue.model(connection.execute(select(models).where(models.c.id == model_id)).one())


def _dataset(connection: Connection, dataset_id: str) -> Dataset:
    return catalogue.dataset(connection.execute(select(datasets).where(datasets.c.id == dataset_id)).one())


def _resume(connection: Connection, job: Row[Any], *, code_version: str) -> Checkpoint | None:
    query = select(checkpoints).where(
        checkpoints.c.job_id == job.id,
        checkpoints.c.spec_hash == job.spec_hash,
        checkpoints.c.code_version == code_version,
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Checkpoint(sha256=row.sha256, size_bytes=row.size_bytes, position=row.position)
