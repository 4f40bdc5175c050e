"""What a database that refuses means to us."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from contract.failures import Failure, InvalidRequest, StorageFull, Unavailable

_DISK_FULL_STATE = "53100"


class DatabaseFull(StorageFull):
    """There is no room left to keep this."""


#: What may pass by itself, and so is asked again by those who can wait: a few lines soon find room again.
NOT_NOW = (Unavailable, DatabaseFull)


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise the contract's failures where the database refuses."""
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("The database is busy.", retry_after=1) from error
    except OperationalError as error:
        raise _failure_of(error) or error from error
    except DataError as error:
        # A number out of its column's bounds, say, is our own mistake; the driver's refusal bears no SQLSTATE.
        if getattr(error.orig, "sqlstate", None) is not None:
            raise
        raise InvalidRequest("The request holds a value that cannot be kept, such as a NUL character.") from error


def _failure_of(error: OperationalError) -> Failure | None:
    if isinstance(error.orig, sqlite3.Error):
        return _failure_of_sqlite(error.orig.sqlite_errorname)
    if getattr(error.orig, "sqlstate", None) == _DISK_FULL_STATE:
        return DatabaseFull()
    return Unavailable("The database does not answer.", retry_after=1)


def _failure_of_sqlite(name: str) -> Failure | None:
    if name == "SQLITE_FULL":
        return DatabaseFull()
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return Unavailable("The database is busy.", retry_after=1)
    return None
