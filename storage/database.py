"""Engine, transactions and migrations on SQLite and PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection


class Database:
    """One database, opened; `read` and `write` are its only ways in."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that writes nothing; raises `Unavailable` where the database does not answer."""
        raise NotImplementedError
        yield

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block; raises `Unavailable` or `StorageFull`."""
        raise NotImplementedError
        yield

    def now(self) -> datetime:
        """The database's clock, UTC."""
        raise NotImplementedError

    def ping(self) -> None:
        """Raise `Unavailable` where the database does not answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection."""
        raise NotImplementedError


def open_database(url: str) -> Database:
    """A database by its SQLAlchemy URL (`sqlite:///...`, `postgresql+psycopg://...`)."""
    raise NotImplementedError


def migrate(url: str) -> None:
    """Bring the schema to the newest revision; any number of processes may do so at once."""
    raise NotImplementedError
