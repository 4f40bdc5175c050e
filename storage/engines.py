"""Connections to SQLite and PostgreSQL, and what is set on each."""

import sqlite3
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

#: How long one waits for a connection, or for the turn to write on SQLite, in seconds.
BUSY_SECONDS = 10

#: Bounds on what one statement or one forgotten transaction can hold up.
_POSTGRESQL_OPTIONS = (
    "-c statement_timeout=10s -c lock_timeout=3s -c idle_in_transaction_session_timeout=30s -c synchronous_commit=on"
)


def postgresql_engine(url: URL, options: str = _POSTGRESQL_OPTIONS) -> Engine:
    """A pool of connections that are tested before they are used."""
    return create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=8,
        pool_timeout=BUSY_SECONDS,
        connect_args={"connect_timeout": 5, "options": options, "application_name": "modelpress"},
    )


def sqlite_engine(url: URL, *, begin: str, pool_size: int, pragmas: tuple[str, ...] = ()) -> Engine:
    """A pool of durable connections, whose transactions start with `begin`."""
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        _set_up(connection, pragmas)

    @event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _set_up(connection: sqlite3.Connection, pragmas: tuple[str, ...]) -> None:
    # The driver's own transactions lose updates, and `synchronous = NORMAL` may lose what was acknowledged.
    connection.isolation_level = None
    durable = (f"busy_timeout = {BUSY_SECONDS * 1000}", "synchronous = FULL", "foreign_keys = ON")
    for pragma in (*durable, *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("modelpress_now", 0, lambda: time.time_ns() // 1000)
