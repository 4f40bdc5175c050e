"""The history of the schema; `migrate` walks it to its end."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.engine import URL

from storage.engines import postgresql_engine, sqlite_engine
from storage.faults import failures_named

#: The number of the lock under which processes that start at once take turns.
_LOCK = 7_305_808_869_231_650


def migrate(url: str) -> None:
    """Bring the schema to the newest revision; any number of processes may do so at once.

    Raises `Unavailable` where the database does not answer.
    """
    parsed = make_url(url)
    turn = _sqlite_turn(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql_turn(parsed)
    with failures_named(), turn as connection:
        command.upgrade(configuration(connection), "head")


def configuration(connection: Connection) -> Config:
    """Alembic over an open connection."""
    config = Config()
    config.set_main_option("script_location", str(files("storage") / "migrations"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _postgresql_turn(url: URL) -> Iterator[Connection]:
    # A migration may take longer than a request, and waits for the others as long as they need.
    engine = postgresql_engine(url, options="")
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _sqlite_turn(url: URL) -> Iterator[Connection]:
    path = Path(url.database or "")
    if not url.database:
        raise ValueError("SQLite needs a file, for its processes meet nowhere else")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only under a lock of its own can a new file become WAL. A table made anew must not take its children with it.
    pragmas = ("journal_mode = WAL", "foreign_keys = OFF")
    engine = sqlite_engine(url, begin="BEGIN IMMEDIATE", pool_size=1, pragmas=pragmas)
    with path.with_name(f"{path.name}.migrating").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()
