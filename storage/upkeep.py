"""What the keeper does: everything is compare-and-swap, so any number of keepers may run."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, or_, select, update

from contract.failures import DeadlineExceeded, JobFailure, QueueDeadlineExceeded, WorkerLost
from contract.job import JobState, StateReason
from storage.columns import now
from storage.database import Database
from storage.progress import NO_PROGRESS
from storage.schema import jobs
from storage.terms import STANDARD_TERMS, Terms
from storage.transitions import end, not_canceled, requeue, ring

#: Jobs looked at in one pass; what is left waits for the next.
_BATCH = 500

#: The pause between two rings for one job doubles at most so often.
_DOUBLINGS = 6

_QUEUED = jobs.c.state == JobState.QUEUED
_LEASE_RAN_OUT = and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now())
_DEADLINE_PASSED = jobs.c.deadline_at <= now()
_WAITED_TOO_LONG = and_(_QUEUED, jobs.c.started_at.is_(None), jobs.c.queue_until <= now())
_EXPIRED = and_(jobs.c.state.not_in([JobState.QUEUED, JobState.RUNNING]), jobs.c.expires_at <= now())


class Upkeep:
    """Puts right what time has undone; each method returns how many jobs it touched."""

    def __init__(self, database: Database, terms: Terms = STANDARD_TERMS) -> None:
        self._database = database
        self._terms = terms

    def reap(self) -> int:
        """Take jobs whose lease ran out from their workers: queued again, failed or canceled."""
        return self._each(_LEASE_RAN_OUT, self._reap_one)

    def fail_overdue(self) -> int:
        """Fail queued jobs that waited too long for their first start, or whose deadline passed."""
        return self._each(or_(_WAITED_TOO_LONG, and_(_QUEUED, _DEADLINE_PASSED)), _fail_overdue_one)

    def sweep(self) -> int:
        """Ring again for jobs that sit queued unheard, ever less often."""
        unheard = and_(_QUEUED, jobs.c.ring_at <= now(), jobs.c.available_at <= now())
        pause = round(self._terms.ring_again_seconds * 1_000_000) * _power_of_two(jobs.c.times_rung)
        again = update(jobs).values(ring_at=now() + pause, times_rung=jobs.c.times_rung + 1)
        if not self._any(unheard):
            return 0
        with self._database.write() as connection:
            devices = connection.execute(again.where(unheard).returning(jobs.c.device)).scalars().all()
            ring(connection, devices)
        return len(devices)

    def expire(self) -> int:
        """Delete ended jobs whose time is up."""
        if not self._any(_EXPIRED):
            return 0
        with self._database.write() as connection:
            return connection.execute(delete(jobs).where(_EXPIRED)).rowcount

    def _any(self, where: ColumnElement[bool]) -> bool:
        # Looking takes no lock; on SQLite writers would wait for it.
        with self._database.read() as connection:
            return connection.execute(select(jobs.c.id).where(where).limit(1)).first() is not None

    def _each(self, where: ColumnElement[bool], act: Callable[[Connection, Row[Any]], bool]) -> int:
        columns = (jobs.c.id, jobs.c.fence, jobs.c.attempt, _DEADLINE_PASSED.label("late"))
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(where).order_by(jobs.c.id).limit(_BATCH)).all()
        return sum(self._act(act, row) for row in rows)

    def _act(self, act: Callable[[Connection, Row[Any]], bool], row: Row[Any]) -> bool:
        with self._database.write() as connection:
            return act(connection, row)

    def _reap_one(self, connection: Connection, row: Row[Any]) -> bool:
        lost = and_(jobs.c.id == row.id, jobs.c.fence == row.fence, _LEASE_RAN_OUT)
        # The flag may have come since we looked, and is never taken back: what is still lost here was canceled.
        return self._take_back(connection, and_(lost, not_canceled()), row) or end(
            connection, lost, state=JobState.CANCELED
        )

    def _take_back(self, connection: Connection, where: ColumnElement[bool], row: Row[Any]) -> bool:
        if row.late:
            return _fail(connection, where, DeadlineExceeded())
        if row.attempt >= self._terms.max_attempts:
            return _fail(
                connection, where, WorkerLost(f"The worker was lost {row.attempt} times while it ran this job.")
            )
        return requeue(
            connection,
            where,
            reason=StateReason.WORKER_LOST,
            ring_again_seconds=self._terms.ring_again_seconds,
            delay_seconds=self._terms.backoff_after(row.attempt),
            **NO_PROGRESS,
        )


def _fail_overdue_one(connection: Connection, row: Row[Any]) -> bool:
    mine = and_(jobs.c.id == row.id, _QUEUED)
    if row.late:
        return _fail(connection, and_(mine, _DEADLINE_PASSED), DeadlineExceeded())
    return _fail(connection, and_(mine, _WAITED_TOO_LONG), QueueDeadlineExceeded())


def _fail(connection: Connection, where: ColumnElement[bool], failure: JobFailure) -> bool:
    return end(connection, where, state=JobState.FAILED, error=failure.problem())


def _power_of_two(exponent: ColumnElement[int]) -> ColumnElement[int]:
    # Neither database has a portable integer power.
    return case(*((exponent <= n, 2**n) for n in range(_DOUBLINGS)), else_=2**_DOUBLINGS)
