"""The append-only log of a job's changes."""

from collections.abc import Collection

from contract.job import Event
from storage.database import Database


class Events:
    """The events of every job, numbered from 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, tenant: str, job_id: str, *, number: int = 0, limit: int = 1000) -> tuple[Event, ...]:
        """Events past a number, oldest first; raises `NotFound`."""
        raise NotImplementedError

    def newest(self, job_ids: Collection[str]) -> dict[str, int]:
        """The newest number of each of these jobs that is still there: one cheap query for the watcher."""
        raise NotImplementedError
