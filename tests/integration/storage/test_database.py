"""What a transaction promises, and what a database that refuses means."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from contract.failures import Failure, InvalidRequest, Unavailable
from storage.columns import now, seconds_from_now
from storage.database import Database, migrate, open_database
from storage.schema import idempotency, rings
from storage.shelves import Folder
from tests.integration.storage.house import TENANT, House, card
from tests.servers import PostgreSQL


def test_no_update_is_lost(database: Database) -> None:
    # Given a row that many threads read, think about and write
    with database.write() as connection:
        connection.execute(insert(rings).values(id=1, device="cpu", tries=0, due_at=now()))

    def count_up(_: int) -> None:
        with database.write() as connection:
            tries = connection.execute(select(rings.c.tries).with_for_update()).scalar_one()
            connection.execute(update(rings).values(tries=tries + 1))

    # When four of them count it up fifty times in all
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(50)))

    # Then all of it has been counted
    with database.read() as connection:
        assert connection.execute(select(rings.c.tries)).scalar_one() == 50


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    # Given a transaction that writes, when it fails before its end
    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert(rings).values(device="cpu", tries=0, due_at=now()))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    # Then nothing was written
    with database.read() as connection:
        assert connection.execute(select(rings)).all() == []


def test_a_reader_cannot_write(database: Database) -> None:
    # Given a view, when one writes in it, then the database refuses
    with pytest.raises((DBAPIError, Failure)), database.read() as connection:
        connection.execute(insert(rings).values(device="cpu", tries=0, due_at=now()))


def test_a_view_stays_the_same_while_others_write(database: Database) -> None:
    # Given a view that has been looked at
    with database.read() as view:
        assert view.execute(select(rings)).all() == []

        # When another writes meanwhile
        with database.write() as connection:
            connection.execute(insert(rings).values(device="cpu", tries=0, due_at=now()))

        # Then the view does not change
        assert view.execute(select(rings)).all() == []


def test_the_clock_is_the_databases_and_has_microseconds(database: Database) -> None:
    # Given a database, when its clock is read thrice, then it goes on, in UTC, near to ours
    first, second, third = database.now(), database.now(), database.now()
    assert first < second < third
    assert abs(datetime.now(UTC) - third) < timedelta(seconds=5)
    assert {moment.microsecond % 1000 for moment in (first, second, third)} != {0}


def test_instants_come_back_as_they_went_in(database: Database) -> None:
    # Given instants of any zone, when they are written and read, then they are the same to the microsecond
    moments = [datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime.fromisoformat("1969-12-31T23:00:00.000001-08:00")]
    with database.write() as connection:
        for moment in moments:
            connection.execute(insert(rings).values(device="cpu", tries=0, due_at=moment))
        found = connection.execute(select(rings.c.due_at).order_by(rings.c.id)).scalars().all()
    assert found == moments


def test_text_that_cannot_be_kept_is_the_clients_mistake(postgresql_url: str) -> None:
    # Given PostgreSQL, which keeps no NUL, when a client sends one, then the request is refused
    database = open_database(postgresql_url)
    fresh = {"tenant": TENANT, "fingerprint": "a" * 64, "token": "b" * 26, "begun_at": seconds_from_now(0)}
    with pytest.raises(InvalidRequest), database.write() as connection:
        connection.execute(insert(idempotency).values(key="a\0b", **fresh))
    database.close()


def test_a_writer_that_waits_too_long_is_told_to_come_again(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a process that holds SQLite's lock, and another that waits for a moment only
    monkeypatch.setattr("storage.engines.BUSY_SECONDS", 0.2)
    holder, other = open_database(sqlite_url), open_database(sqlite_url)

    # When the other writes, in two threads, then both are told that it may succeed later
    with holder.write():
        for _ in range(2):
            with pytest.raises(Unavailable), other.write():
                pass

    # And once the lock is free, it can
    with other.write() as connection:
        connection.execute(text("SELECT 1"))
    holder.close()
    other.close()


def test_threads_that_wait_for_their_turn_are_told_to_come_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a thread that writes for long
    monkeypatch.setattr("storage.engines.BUSY_SECONDS", 0.2)
    database = open_database(sqlite_url)
    started, over = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write():
            started.set()
            over.wait(30)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        started.wait(30)

        # When another of the same process wants to write, then it is told that it may succeed later
        with pytest.raises(Unavailable), database.write():
            pass
        over.set()
        held.result()
    database.close()


def test_a_database_that_is_away_comes_back(postgresql_wheel: Path, tmp_path: Path) -> None:
    # Given a PostgreSQL with a job
    with PostgreSQL(postgresql_wheel) as server:
        migrate(server.url("postgres"))
        database = open_database(server.url("postgres"))
        house = House(database, Folder(tmp_path / "blobs"))
        job = house.submit()

        # When the server dies in the midst of it, then everyone is told that it may succeed later
        server.kill()
        with pytest.raises(Unavailable):
            house.job(job)
        with pytest.raises(Unavailable):
            house.submit()
        with pytest.raises(Unavailable):
            database.ping()
        with pytest.raises(Unavailable):
            migrate(server.url("postgres"))

        # When it is there again, then the same connections go on, and nothing is lost
        server.start()
        assert house.job(job).id == job.id
        assert house.claims.claim(card()) is not None
        database.close()


def test_sqlite_needs_a_file() -> None:
    # Given a URL that names none, when it is migrated, then that is refused
    with pytest.raises(ValueError, match="file"):
        migrate("sqlite://")
