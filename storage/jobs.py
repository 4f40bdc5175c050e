"""Jobs, as those who ask for them see them."""

from collections.abc import Container, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, select

from contract.artifact import Artifact
from contract.failures import InUse, InvalidState, NotFound
from contract.job import MAY_FOLLOW, EventKind, Job, JobState
from contract.spec import JobSpec
from storage import assembly, requirements
from storage.columns import now
from storage.database import Database
from storage.idempotency import Reply, conclude
from storage.outdated import check_current
from storage.paging import FIRST_PAGE, Page, Window
from storage.schema import artifacts, job_labels, job_steps, jobs
from storage.submission import submit
from storage.terms import STANDARD_TERMS, Terms
from storage.transitions import change, end, not_canceled, tell
from storage.values import ALL_JOBS, JobFilter, NewJob

_OPEN = tuple(state for state in JobState if not state.done)
_ENDED = tuple(state for state in JobState if state.done)
_MAY_BE_CANCELED = (*(state for state in JobState if JobState.CANCELED in MAY_FOLLOW[state]), JobState.CANCELED)


class Jobs:
    """The jobs of every tenant."""

    def __init__(self, database: Database, terms: Terms = STANDARD_TERMS) -> None:
        self._database = database
        self._terms = terms

    def add(self, new: NewJob, *, reply: Reply[Job] | None = None) -> Job:
        """Write the job, its first event, its ring and the reply in one transaction.

        Raises `NotFound` and `NotReady`, with a pointer, for resources that the spec names.
        """
        with self._database.write() as connection:
            return self._add(connection, new, reply)

    def get(self, tenant: str, job_id: str) -> Job:
        """Raises `NotFound`."""
        with self._database.read() as connection:
            return self._get(connection, tenant, job_id)

    def list(self, tenant: str, window: Window = FIRST_PAGE, *, only: JobFilter = ALL_JOBS) -> Page[Job]:
        """Newest first."""
        query = select(jobs).where(jobs.c.tenant == tenant, *_conditions(only), *window.conditions(jobs.c.id))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(window.limit + 1)).all()
            return Page.of(assembly.assemble(connection, rows, live_seconds=self._terms.live_seconds), window)

    def check_inputs(self, tenant: str, spec: JobSpec, *, but: Container[str] = ()) -> None:
        """Raise what `add` would raise for the resources that the spec names, `but` those that are still to come."""
        with self._database.write() as connection:
            requirements.hold_inputs(connection, tenant, spec, but=but)

    def count_by_state(self) -> dict[JobState, int]:
        """How many jobs of all tenants stand in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._database.read() as connection:
            found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in JobState}

    def artifact(self, tenant: str, job_id: str, *, filename: str) -> Artifact:
        """One file of a job; raises `NotFound`."""
        wanted = (artifacts.c.job_id == job_id, artifacts.c.tenant == tenant, artifacts.c.filename == filename)
        with self._database.read() as connection:
            row = connection.execute(select(artifacts).where(*wanted)).one_or_none()
        if row is None:
            raise NotFound("There is no artifact of this name.")
        return assembly.artifact(row)

    def request_cancel(self, tenant: str, job_id: str) -> Job:
        """End a queued job, flag a running one; raises `NotFound`, and `InvalidState` where it succeeded or failed."""
        with self._database.write() as connection:
            state = _lock(connection, tenant, job_id)
            if state not in _MAY_BE_CANCELED:
                raise InvalidState(f"The job has {state}.", state=state, allowed=_MAY_BE_CANCELED)
            if state is JobState.QUEUED:
                end(connection, jobs.c.id == job_id, state=JobState.CANCELED, cancel_requested_at=now())
            elif state is JobState.RUNNING:
                _flag(connection, job_id)
            return self._get(connection, tenant, job_id)

    def retry(self, tenant: str, job_id: str, *, reply: Reply[Job] | None = None) -> Job:
        """A new job with the same spec.

        Raises `NotFound`; `InvalidState` for an open job; `SpecOutdated` for a spec that this version would refuse.
        """
        with self._database.write() as connection:
            old = self._get(connection, tenant, job_id)
            if not old.done:
                raise InvalidState(f"The job is {old.state}.", state=old.state, allowed=_ENDED)
            check_current(old.spec)
            return self._add(connection, NewJob(tenant=tenant, spec=old.spec, retry_of=old.id), reply)

    def delete(self, tenant: str, job_id: str) -> None:
        """Drop an ended job with all that is its own; raises `NotFound`, and `InUse` for an open job."""
        with self._database.write() as connection:
            state = _lock(connection, tenant, job_id)
            if not state.done:
                raise InUse(f"The job is {state}.", state=state, allowed=_ENDED)
            connection.execute(delete(jobs).where(jobs.c.id == job_id))

    def _add(self, connection: Connection, new: NewJob, reply: Reply[Job] | None) -> Job:
        row = submit(connection, new, ring_again_seconds=self._terms.ring_again_seconds)
        job = self._assembled(connection, row)
        if reply is not None:
            conclude(connection, reply.ticket, reply.answer(job))
        return job

    def _get(self, connection: Connection, tenant: str, job_id: str) -> Job:
        return self._assembled(connection, _row(connection, tenant, job_id))

    def _assembled(self, connection: Connection, row: Row[Any]) -> Job:
        return assembly.assemble(connection, [row], live_seconds=self._terms.live_seconds)[0]


def _row(connection: Connection, tenant: str, job_id: str) -> Row[Any]:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant)).one_or_none()
    if row is None:
        raise NotFound("There is no job under this id.")
    return row


def _lock(connection: Connection, tenant: str, job_id: str) -> JobState:
    query = select(jobs.c.state).where(jobs.c.id == job_id, jobs.c.tenant == tenant).with_for_update()
    state = connection.execute(query).scalar_one_or_none()
    if state is None:
        raise NotFound("There is no job under this id.")
    return JobState(state)


def _flag(connection: Connection, job_id: str) -> None:
    row = change(connection, and_(jobs.c.id == job_id, not_canceled()), cancel_requested_at=now())
    if row is not None:
        tell(connection, row, EventKind.CANCEL_REQUESTED, {"state": row.state})


def _conditions(only: JobFilter) -> Iterator[ColumnElement[bool]]:
    if only.state is not None:
        yield jobs.c.state == only.state.value
    if only.model is not None:
        yield jobs.c.model_id == only.model
    if only.method is not None:
        yield exists().where(job_steps.c.job_id == jobs.c.id, job_steps.c.method == only.method)
    for key, value in only.metadata.items():
        label = and_(job_labels.c.job_id == jobs.c.id, job_labels.c.key == key, job_labels.c.value == value)
        yield exists().where(label)
