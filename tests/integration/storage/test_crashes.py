"""kill -9 at any moment: what was acknowledged is there, and nothing is there by half."""

import hashlib
import os
import random
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import select, text

from contract.job import Job
from storage.database import open_database
from storage.idempotency import Reply
from storage.schema import blobs as rows
from storage.shelves import Folder
from storage.values import Answer, NewJob, Ticket
from tests.integration.storage.house import TENANT, House, spec

#: Processes that are killed in each test, and what each gets done at most before.
KILLS, WORDS = 8, 40

Deed = Callable[[House, int, Connection], None]


def _work(url: str, folder: Path, number: int, deed: Deed, words: Connection) -> None:
    database = open_database(url)
    house = House(database, Folder(folder))
    while True:
        deed(house, number, words)


def _acknowledged_by_killed(url: str, folder: Path, deed: Deed) -> list[str]:
    """What processes said they had done, until each was killed in the midst of the next."""
    context, chance, said = get_context("fork"), random.Random(0), []
    for number in range(KILLS):
        heard, words = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(url, folder, number, deed, words))
        process.start()
        words.close()
        said += [heard.recv() for _ in range(chance.randrange(1, WORDS))]
        time.sleep(chance.random() * 0.005)
        process.kill()
        process.join()
        said += _rest(heard)
    return said


def _rest(heard: Connection) -> list[str]:
    rest = []
    while heard.poll():
        try:
            rest.append(heard.recv())
        except EOFError:
            break
    heard.close()
    return rest


def _add_job(house: House, number: int, words: Connection) -> None:
    key = f"{number}-{len(house.jobs.list(TENANT).items)}-{os.urandom(4).hex()}"
    ticket = house.idempotency.begin(TENANT, key, fingerprint="a" * 64)
    assert isinstance(ticket, Ticket)

    def answer(job: Job) -> Answer:
        return Answer(status=202, headers={}, body=job.id.encode())

    job = house.jobs.add(NewJob(tenant=TENANT, spec=spec()), reply=Reply(ticket, answer))
    words.send(f"{key} {job.id}")


def test_every_acknowledged_job_is_there(sqlite_url: str, tmp_path: Path) -> None:
    # Given processes that add jobs and say so, when they are killed at any moment
    said = _acknowledged_by_killed(sqlite_url, tmp_path / "blobs", _add_job)

    # Then the database is whole, and every job that was acknowledged is there, with its answer and its first event
    database = open_database(sqlite_url)
    house = House(database, Folder(tmp_path / "blobs"))
    with database.read() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    assert len(said) >= KILLS
    for line in said:
        key, job_id = line.split()
        assert house.told(house.jobs.get(TENANT, job_id)) == ["job.created"]
        answer = house.idempotency.begin(TENANT, key, fingerprint="a" * 64)
        assert isinstance(answer, Answer)
        assert answer.body == job_id.encode()

    # And no job lacks its ring
    assert house.outbox.waiting() == sum(house.jobs.count_by_state().values())
    database.close()


def _keep_bytes(house: House, number: int, words: Connection) -> None:
    content = os.urandom(300_000)
    with house.blobs.writer(TENANT) as writer:
        for start in range(0, len(content), 50_000):
            writer.write(content[start : start + 50_000])
        words.send(writer.commit().sha256)


def test_no_bytes_are_visible_by_half(sqlite_url: str, tmp_path: Path) -> None:
    # Given processes that store bytes and say so, when they are killed at any moment
    folder = tmp_path / "blobs"
    said = _acknowledged_by_killed(sqlite_url, folder, _keep_bytes)

    # Then all that was acknowledged is there, and all that is there is whole
    database = open_database(sqlite_url)
    house = House(database, Folder(folder))
    with database.read() as connection:
        present = set(connection.execute(select(rows.c.sha256).where(rows.c.present)).scalars())
    assert len(said) >= KILLS
    assert set(said) <= present
    for sha256 in present:
        assert hashlib.sha256(b"".join(house.blobs.read(TENANT, sha256))).hexdigest() == sha256
    for file in (folder / f"t-{TENANT}").rglob("*.*"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name.partition(".")[0]

    # And what was left by half goes with time
    for file in (folder / "inbox").iterdir():
        os.utime(file, (0, 0))
    house.blobs.garbage()
    assert list((folder / "inbox").iterdir()) == []
    database.close()
