"""What storage refuses for a while costs no job its end, and holds none that has to end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contract.failures import Unavailable
from contract.job import Job, JobState
from storage.blobs import Blobs
from storage.database import Database
from storage.shelves import Folder
from tests.deadline import until
from tests.faults.bench import TENANT, Bench, relatives

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


class Fickle:
    """A shelf that answers or does not, and says whether it was asked in vain."""

    def __init__(self, root: Path) -> None:
        self._folder = Folder(root)
        self.inbox = self._folder.inbox
        self.away = False
        self.refused = threading.Event()

    def put(self, file: Path, key: str) -> None:
        self._answer()
        self._folder.put(file, key)

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        self._answer()
        return self._folder.read(key, start, end)

    def size(self, key: str) -> int | None:
        self._answer()
        return self._folder.size(key)

    def delete(self, key: str) -> None:
        self._answer()
        self._folder.delete(key)

    def path(self, key: str) -> Path | None:
        return self._folder.path(key)

    def _answer(self) -> None:
        if self.away:
            self.refused.set()
            raise Unavailable("The blob store does not answer.")


@pytest.fixture
def shelf(bench: Bench, tmp_path: Path) -> Fickle:
    """Where the bench keeps its blobs."""
    shelf = Fickle(tmp_path / "fickle")
    bench.blobs = Blobs(bench.database, shelf)
    bench.supervisor = replace(bench.supervisor, archive=replace(bench.supervisor.archive, blobs=bench.blobs))
    return shelf


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


def cancel(bench: Bench, job: Job) -> None:
    bench.jobs.request_cancel(TENANT, job.id)


def shut_down(bench: Bench, job: Job) -> None:
    del job
    bench.stop[0] = True


def wait(bench: Bench, job: Job) -> None:
    """Until the job's deadline."""
    del bench, job


#: What ends a job that waits, and how.
MUST_END = pytest.mark.parametrize(
    ("deed", "limits", "state"),
    [
        (cancel, {}, JobState.CANCELED),
        (shut_down, {}, JobState.QUEUED),
        (wait, {"max_run_seconds": 5}, JobState.FAILED),
    ],
)


@MUST_END
def test_a_job_whose_inputs_cannot_be_read_ends_where_it_must(
    bench: Bench, shelf: Fickle, deed: Callable[[Bench, Job], None], limits: dict[str, int], state: JobState
) -> None:
    # Given a job that waits for its inputs
    job = bench.submit("finish", **limits)
    shelf.away = True
    supervising = begin(bench)
    assert shelf.refused.wait(SOON)
    # When it must not go on / Then it ends, though the store is still away
    deed(bench, job)
    supervising.join(SOON)
    assert bench.job(job).state is state


@MUST_END
def test_a_job_whose_files_cannot_be_kept_ends_where_it_must(
    bench: Bench,
    shelf: Fickle,
    tmp_path: Path,
    deed: Callable[[Bench, Job], None],
    limits: dict[str, int],
    state: JobState,
) -> None:
    # Given a job that is done and waits for a store that is away
    job = bench.submit("finish_when_told", argument=str(tmp_path / "told"), **limits)
    supervising = begin(bench)
    until(lambda: acts(bench, job))
    shelf.away = True
    (tmp_path / "told").touch()
    assert shelf.refused.wait(SOON)
    # When it must not wait / Then it ends without its files
    deed(bench, job)
    supervising.join(SOON)
    assert (bench.job(job).state, bench.job(job).artifacts) == (state, ())


def test_a_job_whose_files_cannot_be_kept_for_a_while_keeps_them(bench: Bench, shelf: Fickle, tmp_path: Path) -> None:
    # Given a job that is done and waits for a store that is away
    job = bench.submit("finish_when_told", argument=str(tmp_path / "told"))
    supervising = begin(bench)
    until(lambda: acts(bench, job))
    shelf.away = True
    (tmp_path / "told").touch()
    assert shelf.refused.wait(SOON)
    # When the store is back / Then they are there
    shelf.away = False
    supervising.join(SOON)
    assert bench.job(job).state is JobState.SUCCEEDED
    assert bench.artifact(job) == b"model.json"
