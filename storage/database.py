"""Transactions on SQLite and PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, make_url, select, text, type_coerce

from storage.columns import Instant, now
from storage.engines import postgresql_engine, sqlite_engine
from storage.faults import failures_named
from storage.migrations import migrate


class Database:
    """One database, opened; `read` and `write` are its only ways in."""

    def __init__(self, *, reader: Engine, writer: Engine) -> None:
        self._reader = reader
        self._writer = writer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that writes nothing; raises `Unavailable` where the database does not answer."""
        with failures_named(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block; raises `Unavailable` or `StorageFull`."""
        with failures_named(), self._writer.begin() as connection:
            yield connection

    def now(self) -> datetime:
        """The database's clock, UTC."""
        with self.read() as connection:
            return clock(connection)

    def ping(self) -> None:
        """Raise `Unavailable` where the database does not answer."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()


def clock(connection: Connection) -> datetime:
    """The database's clock, UTC, within a transaction."""
    return connection.execute(select(type_coerce(now(), Instant))).scalar_one()


def open_database(url: str) -> Database:
    """A database by its SQLAlchemy URL (`sqlite:///...`, `postgresql+psycopg://...`), migrated before."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        # Writers of one process take turns at one connection, in order, instead of sleeping on the file's lock. A
        # transaction that reads first and writes then would fail where another has written in between: IMMEDIATE.
        writer = sqlite_engine(parsed, begin="BEGIN IMMEDIATE", pool_size=1)
        return Database(
            reader=sqlite_engine(parsed, begin="BEGIN", pool_size=32, pragmas=("query_only = ON",)), writer=writer
        )
    writer = postgresql_engine(parsed)
    # One snapshot for all the queries of a view; a transaction that only reads cannot fail for it.
    reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return Database(reader=reader, writer=writer)


__all__ = ["Database", "clock", "migrate", "open_database"]
