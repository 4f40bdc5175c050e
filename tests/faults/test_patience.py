"""What storage refuses for a while costs no job its end, and holds none that has to end."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.job import Job, JobState
from storage.database import Database
from tests.deadline import until
from tests.faults.bench import Bench, relatives

#: Within so many seconds an attempt that need not wait has ended.
SOON = 30


@contextmanager
def full(database: Database) -> Iterator[None]:
    """A SQLite that may not grow."""
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    yield
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")


def begin(bench: Bench) -> threading.Thread:
    """Carry out the next job in a thread."""
    supervising = threading.Thread(target=bench.supervisor.carry_out, args=(bench.claim(),))
    supervising.start()
    return supervising


def acts(bench: Bench, job: Job) -> bool:
    progress = bench.job(job).progress
    return progress is not None and progress.phase == "acting"


def test_what_was_proven_while_the_database_was_full_is_kept(bench: Bench, tmp_path: Path) -> None:
    # Given a job at work
    job = bench.submit("finish_when_told", argument=str(tmp_path / "told"))
    supervising = begin(bench)
    until(lambda: acts(bench, job))
    # When it is done while the database has no room
    with full(bench.database):
        (tmp_path / "told").touch()
        until(lambda: relatives(bench) == [])
        supervising.join(2)
        assert supervising.is_alive()
    # Then what it has made is kept once there is room again
    supervising.join(SOON)
    assert bench.job(job).state is JobState.SUCCEEDED
    assert bench.artifact(job) == b"model.json"
