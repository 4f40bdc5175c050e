"""Bytes by their content."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from sqlalchemy import select

from contract.artifact import ArtifactFile, ArtifactFormat
from contract.failures import ContentGone, DigestMismatch, InputCorrupt, StorageFull, Unavailable
from contract.job import JobState
from storage.blobs import Blobs
from storage.database import Database
from storage.schema import blobs as rows
from storage.schema import discarded
from storage.shelves import Folder, Objects, Shelf
from storage.values import JobEnd
from tests.integration.storage.house import TENANT, House


@pytest.fixture(params=["folder", "objects"])
def house(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> House:
    """Storage with blobs in a folder, and in an object store."""
    folder, objects = Folder(tmp_path / "blobs"), Objects(MemoryStore(), inbox=tmp_path / "spool")
    return House(database, folder if request.param == "folder" else objects)


#: For what only a folder can show.
in_a_folder = pytest.mark.parametrize("house", ["folder"], indirect=True)


def _read(blobs: Blobs, sha256: str, **part: int) -> bytes:
    return b"".join(blobs.read(TENANT, sha256, **part))


def _inbox(house: House) -> list[Path]:
    return list(house.shelf.inbox.iterdir())


def _rows(house: House) -> int:
    with house.database.read() as connection:
        return len(connection.execute(select(rows)).all())


def test_bytes_come_back_as_they_went_in(house: House, tmp_path: Path) -> None:
    # Given bytes that come in pieces of any length
    content = os.urandom(3_000_000)
    with house.blobs.writer(TENANT, expected_bytes=len(content)) as writer:
        for start in range(0, len(content), 70_001):
            writer.write(content[start : start + 70_001])
        blob = writer.commit(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))

    # Then they are there under their digest, whole and in part, and nothing else is left
    assert (blob.sha256, blob.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert _read(house.blobs, blob.sha256) == content
    assert _read(house.blobs, blob.sha256, start=1_048_570, end=1_048_580) == content[1_048_570:1_048_580]
    assert _read(house.blobs, blob.sha256, start=2_999_999) == content[-1:]
    assert _read(house.blobs, blob.sha256, start=10, end=9_999_999) == content[10:]
    assert _inbox(house) == []


def test_no_bytes_are_bytes_too(house: House) -> None:
    # Given an empty file, when it is stored, then it is there
    blob = house.keep(b"")
    assert _read(house.blobs, blob.sha256) == b""


@pytest.mark.parametrize("announced", [{"sha256": "0" * 64}, {"size_bytes": 6}, {"sha256": "0" * 64, "size_bytes": 5}])
def test_bytes_that_are_not_those_announced_are_not_kept(
    house: House, tmp_path: Path, announced: dict[str, object]
) -> None:
    # Given five bytes where others were announced, when they are committed, then they are refused
    with house.blobs.writer(TENANT) as writer:
        writer.write(b"bytes")
        with pytest.raises(DigestMismatch):
            writer.commit(**announced)  # type: ignore[arg-type]

    # And nothing is left of them
    assert _rows(house) == 0
    assert _inbox(house) == []


def test_bytes_that_are_not_committed_leave_nothing(house: House, tmp_path: Path) -> None:
    # Given a writer whose client goes away
    def go_away() -> None:
        with house.blobs.writer(TENANT) as writer:
            writer.write(b"half of the")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        go_away()

    # Then nothing is left
    assert _rows(house) == 0
    assert _inbox(house) == []


def test_equal_bytes_of_a_tenant_are_kept_once(house: House) -> None:
    # Given bytes that are there, when they come again and when they come to another tenant
    first = house.keep(b"same")
    assert house.keep(b"same") == first
    assert house.keep(b"same", tenant="theirs") == first

    # Then each tenant has them once
    assert _rows(house) == 2


def test_another_tenants_bytes_are_not_there(house: House) -> None:
    # Given bytes of ours, when another tenant reads them, then they are not there
    blob = house.keep(b"ours")
    with pytest.raises(ContentGone):
        house.blobs.read("theirs", blob.sha256)


@pytest.mark.parametrize("tenant", ["../up", "a/b", "..", "ü ?#", "x" * 64])
def test_a_tenants_name_leads_nowhere_else(house: House, tmp_path: Path, tenant: str) -> None:
    # Given a tenant with a strange name, when it stores bytes, then they are there and within the store
    blob = house.keep(b"strange", tenant=tenant)
    assert b"".join(house.blobs.read(tenant, blob.sha256)) == b"strange"
    path = house.blobs.local_path(tenant, blob.sha256)
    assert path is None or (tmp_path / "blobs") in path.resolve().parents


def test_a_file_is_kept_and_copied_out_again(house: House, tmp_path: Path) -> None:
    # Given a file, when it is stored and copied to a new place
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"weights" * 300_000)
    blob = house.blobs.add_file(TENANT, source)
    house.blobs.copy_to(TENANT, blob.sha256, path=target)

    # Then the copy is the same, and can only be read
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o440


def test_bytes_that_the_disk_lost_can_be_given_again(house: House) -> None:
    # Given stored bytes whose file is lost
    blob = house.keep(b"precious")
    house.shelf.delete(_key(house, blob.sha256))
    with pytest.raises(ContentGone):
        house.blobs.read(TENANT, blob.sha256)

    # When they come again, then they are there again
    house.keep(b"precious")
    assert _read(house.blobs, blob.sha256) == b"precious"


def test_bytes_that_were_damaged_can_be_given_again(house: House, tmp_path: Path) -> None:
    # Given stored bytes that have changed, and are as many as before
    blob = house.keep(b"precious")
    damaged = house.shelf.inbox / "damaged"
    damaged.write_bytes(b"precIous")
    house.shelf.put(damaged, _key(house, blob.sha256))
    with pytest.raises(InputCorrupt):
        house.blobs.copy_to(TENANT, blob.sha256, path=tmp_path / "bad")

    # When they come again, then a job can read them, and nothing else is left
    assert house.keep(b"precious") == blob
    house.blobs.copy_to(TENANT, blob.sha256, path=tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == b"precious"
    assert (_rows(house), _inbox(house)) == (1, [])


@in_a_folder
def test_bytes_are_read_to_their_end_where_they_come_again_meanwhile(house: House) -> None:
    # Given a reader in the midst of bytes in a folder
    content = os.urandom(3_000_000)
    blob = house.keep(content)
    reading = house.blobs.read(TENANT, blob.sha256)
    first = next(reading)

    # When they come again, then the reader gets the rest all the same
    house.keep(content)
    assert first + b"".join(reading) == content


def _key(house: House, sha256: str) -> str:
    with house.database.read() as connection:
        return str(connection.execute(select(rows.c.key).where(rows.c.sha256 == sha256)).scalar_one())


def test_what_nothing_refers_to_goes_after_a_grace(house: House) -> None:
    # Given bytes that nothing refers to, and whose pin is over
    blob = house.keep(b"orphan")
    key = _key(house, blob.sha256)
    assert house.blobs.garbage() == 0
    house.pass_time(1801)

    # When the keeper comes, then it marks them, and drops them ten minutes later
    assert house.blobs.garbage() == 0
    house.pass_time(599)
    assert house.blobs.garbage() == 0
    assert _read(house.blobs, blob.sha256) == b"orphan"
    house.pass_time(1)
    assert house.blobs.garbage() == 1
    with pytest.raises(ContentGone):
        house.blobs.read(TENANT, blob.sha256)
    assert _rows(house) == 0
    assert house.shelf.size(key) is None


def test_what_is_still_waited_for_can_be_pinned_anew(house: House) -> None:
    # Given bytes that nothing refers to yet, already marked, and others
    blob, other = house.keep(b"first of many"), house.keep(b"orphan")
    house.pass_time(1801)
    assert house.blobs.garbage() == 0

    # When their pin is renewed, then only the others go, until it is over again
    house.blobs.renew(TENANT, [blob])
    house.pass_time(1799)
    assert house.blobs.garbage() == 1
    with pytest.raises(ContentGone):
        house.blobs.read(TENANT, other.sha256)
    assert _read(house.blobs, blob.sha256) == b"first of many"
    house.pass_time(2)
    assert house.blobs.garbage() == 0
    house.pass_time(600)
    assert house.blobs.garbage() == 1


def _as_model(house: House) -> str:
    return str(house.model(b"needed").sha256)


def _as_dataset(house: House) -> str:
    return str(house.dataset(b"needed").sha256)


def _as_checkpoint(house: House) -> str:
    blob = house.keep(b"needed")
    house.checkpoints.keep(house.running(), blob, code_version="1.0", position={})
    return blob.sha256


def _as_artifact(house: House) -> str:
    blob = house.keep(b"needed")
    file = ArtifactFile(
        filename="model.onnx",
        format=ArtifactFormat.ONNX,
        media_type="application/octet-stream",
        size_bytes=blob.size_bytes,
        sha256=blob.sha256,
    )
    house.claims.finish(house.running(), JobEnd(state=JobState.SUCCEEDED, artifacts=(file,)))
    return blob.sha256


@pytest.mark.parametrize("refer", [_as_model, _as_dataset, _as_checkpoint, _as_artifact])
def test_what_something_refers_to_stays(house: House, refer: Callable[[House], str]) -> None:
    # Given bytes that something refers to, when years pass and keepers come, then they are there
    sha256 = refer(house)
    for _ in range(3):
        house.pass_time(10_000_000)
        assert house.blobs.garbage() == 0
    assert _read(house.blobs, sha256) == b"needed"


def test_what_two_jobs_delivered_stays_until_both_are_gone(house: House) -> None:
    # Given two jobs that delivered the same bytes
    sha256 = _as_artifact(house)
    assert _as_artifact(house) == sha256
    first, second = (job.id for job in house.jobs.list(TENANT).items)

    def years_pass() -> int:
        dropped = 0
        for _ in range(2):
            house.pass_time(10_000_000)
            dropped += house.blobs.garbage()
        return dropped

    # When one is deleted, then they stay; when both are, then they go
    house.jobs.delete(TENANT, first)
    assert years_pass() == 0
    house.jobs.delete(TENANT, second)
    assert years_pass() == 1


def test_bytes_that_come_again_while_they_are_marked_stay(house: House) -> None:
    # Given bytes that are marked and about to go
    blob = house.keep(b"again")
    house.pass_time(1801)
    house.blobs.garbage()
    house.pass_time(601)

    # When they come again, then the pin holds them
    assert house.keep(b"again") == blob
    assert house.blobs.garbage() == 0
    assert _read(house.blobs, blob.sha256) == b"again"


def test_what_a_dead_collector_left_is_deleted_by_the_next(house: House) -> None:
    # Given a collector that died between dropping the row and deleting the bytes
    blob = house.keep(b"left")
    with house.database.write() as connection:
        key = connection.execute(select(rows.c.key)).scalar_one()
        connection.execute(rows.delete())
        connection.execute(discarded.insert().values(key=key))

    # When the same bytes have come again meanwhile, and the next collector comes
    assert house.keep(b"left") == blob
    house.blobs.garbage()

    # Then the old bytes are gone, and the new ones are there
    assert house.shelf.size(key) is None
    assert _read(house.blobs, blob.sha256) == b"left"


def test_an_abandoned_file_of_the_inbox_goes(house: House, tmp_path: Path) -> None:
    # Given files in the inbox, one of which has not grown for seven hours
    inbox = house.shelf.inbox
    old, young = inbox / "old", inbox / "young"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (0, old.stat().st_mtime - 7 * 3600))

    # When the keeper comes, then that one goes
    house.blobs.garbage()
    assert not old.exists()
    assert young.exists()


def test_an_upload_that_would_not_fit_is_refused_at_once(house: House) -> None:
    # Given more bytes than any disk has, when they are announced, then they are refused
    with pytest.raises(StorageFull) as caught:
        house.blobs.writer(TENANT, expected_bytes=2**60)
    assert caught.value.retry_after is not None


@in_a_folder
def test_a_corrupt_input_is_found_out(house: House, tmp_path: Path) -> None:
    # Given bytes that have changed on the disk
    blob = house.keep(b"input")
    path = house.blobs.local_path(TENANT, blob.sha256)
    assert path is not None
    path.chmod(0o640)
    path.write_bytes(b"inpuT")

    # When they are copied for a job, then it is told
    with pytest.raises(InputCorrupt):
        house.blobs.copy_to(TENANT, blob.sha256, path=tmp_path / "copy")
    path.unlink()
    with pytest.raises(InputCorrupt):
        house.blobs.copy_to(TENANT, blob.sha256, path=tmp_path / "another")


@in_a_folder
def test_bytes_are_read_to_their_end_even_where_they_are_deleted_meanwhile(house: House) -> None:
    # Given a reader in the midst of bytes in a folder
    blob = house.keep(os.urandom(3_000_000))
    path = house.blobs.local_path(TENANT, blob.sha256)
    assert path is not None
    reading = house.blobs.read(TENANT, blob.sha256)
    first = next(reading)

    # When they are deleted, then the reader gets the rest all the same
    path.unlink()
    assert hashlib.sha256(first + b"".join(reading)).hexdigest() == blob.sha256


@dataclass
class SlowShelf:
    """A shelf that takes so long that a keeper comes in between."""

    shelf: Shelf
    meanwhile: Callable[[], None]

    def __post_init__(self) -> None:
        self.inbox = self.shelf.inbox

    def put(self, file: Path, key: str) -> None:
        """Slowly."""
        self.shelf.put(file, key)
        self.meanwhile()

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """As the other does."""
        return self.shelf.read(key, start, end)

    def size(self, key: str) -> int | None:
        """As the other does."""
        return self.shelf.size(key)

    def delete(self, key: str) -> None:
        """As the other does."""
        self.shelf.delete(key)

    def path(self, key: str) -> Path | None:
        """As the other does."""
        return self.shelf.path(key)


def test_bytes_whose_place_was_given_up_are_not_acknowledged(house: House) -> None:
    # Given a store so slow that the pin is over and the keeper has dropped the row before the bytes are there
    def years_pass() -> None:
        for _ in range(2):
            house.pass_time(10_000_000)
            house.blobs.garbage()

    slow = Blobs(house.database, SlowShelf(house.shelf, years_pass))

    # When the writer comes to say that they are there, then it is told to come again, and nothing is left
    with slow.writer(TENANT) as writer:
        writer.write(b"slow")
        with pytest.raises(Unavailable):
            writer.commit()
    assert _rows(house) == 0
    assert _inbox(house) == []


def test_the_store_answers(house: House) -> None:
    # Given a store, when it is asked whether it is there, then it is
    house.blobs.ping()
