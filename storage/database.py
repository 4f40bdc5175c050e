"""Transactions on SQLite and PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, make_url, select, text, type_coerce
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from contract.failures import Failure, InvalidRequest, StorageFull, Unavailable
from storage.columns import Instant, now
from storage.engines import postgresql_engine, sqlite_engine
from storage.migrations import migrate

_DISK_FULL_STATE = "53100"


class Database:
    """One database, opened; `read` and `write` are its only ways in."""

    def __init__(self, *, reader: Engine, writer: Engine) -> None:
        self._reader = reader
        self._writer = writer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that writes nothing; raises `Unavailable` where the database does not answer."""
        with _failures_named(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block; raises `Unavailable` or `StorageFull`."""
        with _failures_named(), self._writer.begin() as connection:
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


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("The database is busy.", retry_after=1) from error
    except OperationalError as error:
        raise _failure_of(error) or error from error
    except DataError as error:
        raise InvalidRequest("The request holds a value that cannot be kept, such as a NUL character.") from error


def _failure_of(error: OperationalError) -> Failure | None:
    if isinstance(error.orig, sqlite3.Error):
        return _failure_of_sqlite(error.orig.sqlite_errorname)
    if getattr(error.orig, "sqlstate", None) == _DISK_FULL_STATE:
        return StorageFull()
    return Unavailable("The database does not answer.", retry_after=1)


def _failure_of_sqlite(name: str) -> Failure | None:
    if name == "SQLITE_FULL":
        return StorageFull()
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return Unavailable("The database is busy.", retry_after=1)
    return None


__all__ = ["Database", "clock", "migrate", "open_database"]
