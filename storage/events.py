"""The append-only log of a job's changes."""

from collections.abc import Collection

from sqlalchemy import select

from contract.failures import NotFound
from contract.job import Event
from storage.database import Database
from storage.schema import events, jobs


class Events:
    """The events of every job, numbered from 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, tenant: str, job_id: str, *, number: int = 0, limit: int = 1000) -> tuple[Event, ...]:
        """Events past a number, oldest first; raises `NotFound`."""
        mine = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.tenant == tenant)
        query = select(events).where(events.c.job_id == job_id, events.c.number > number).order_by(events.c.number)
        with self._database.read() as connection:
            if connection.execute(mine).one_or_none() is None:
                raise NotFound("There is no job under this id.")
            rows = connection.execute(query.limit(limit)).all()
        return tuple(
            Event(number=row.number, kind=row.kind, created_at=row.created_at, attempt=row.attempt, data=row.data)
            for row in rows
        )

    def newest(self, job_ids: Collection[str]) -> dict[str, int]:
        """The newest number of each of these jobs that is still there: one cheap query for the watcher."""
        query = select(jobs.c.id, jobs.c.last_event).where(jobs.c.id.in_(job_ids))
        with self._database.read() as connection:
            return {row.id: row.last_event for row in connection.execute(query)}
