"""A full disk refuses, keeps nothing by half, and works again once there is room."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.failures import StorageFull
from storage.database import Database, open_database
from storage.shelves import Folder
from tests.integration.storage.house import TENANT, House

MIB = 2**20


def _mount(folder: Path, options: str) -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", options, "modelpress", str(folder)]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@dataclass
class SmallDisk:
    """A disk of 8 MiB where root may mount one; else files that cannot grow longer than that."""

    folder: Path
    mounted: bool = False

    def shrink(self) -> None:
        """Leave little room."""
        self.mounted = os.geteuid() == 0 and _mount(self.folder, "remount,size=8m" if self.mounted else "size=8m")
        if not self.mounted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def grow(self) -> None:
        """Leave plenty."""
        if self.mounted:
            assert _mount(self.folder, "remount,size=64m")
        else:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk that can be made small."""
    folder = tmp_path / "small"
    folder.mkdir()
    disk = SmallDisk(folder)
    yield disk
    disk.grow()
    if disk.mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _upload(house: House) -> str:
    with house.blobs.writer(TENANT) as writer:
        for _ in range(12):
            writer.write(os.urandom(MIB))
        return writer.commit().sha256


def test_bytes_that_do_not_fit_leave_nothing(disk: SmallDisk, database: Database) -> None:
    # Given a disk of 8 MiB, when 12 MiB are uploaded, then that is refused
    disk.shrink()
    house = House(database, Folder(disk.folder))
    with pytest.raises(StorageFull) as caught:
        _upload(house)
    assert caught.value.retry_after

    # And nothing of them is left, so that what fits still fits
    assert list((disk.folder / "inbox").iterdir()) == []
    small = house.keep(os.urandom(4 * MIB))
    assert sum(len(piece) for piece in house.blobs.read(TENANT, small.sha256)) == 4 * MIB

    # When there is room, then they fit too
    disk.grow()
    assert len(b"".join(house.blobs.read(TENANT, _upload(house)))) == 12 * MIB


def test_a_copy_that_does_not_fit_is_told(disk: SmallDisk, database: Database, tmp_path: Path) -> None:
    # Given an input that is larger than what the scratch folder holds
    house = House(database, Folder(tmp_path / "blobs"))
    sha256 = _upload(house)
    disk.shrink()

    # When it is copied there, then that is refused by name
    with pytest.raises(StorageFull):
        house.blobs.copy_to(TENANT, sha256, path=disk.folder / "copy")


def test_a_database_that_is_full_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    # Given a SQLite that may grow by a few pages only
    database = open_database(sqlite_url)
    house = House(database, Folder(tmp_path / "blobs"))
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")

    # When jobs are added until it is full
    made: list[str] = []
    with pytest.raises(StorageFull) as caught:
        made.extend(house.submit().id for _ in range(1000))
    assert caught.value.retry_after

    # Then every one that was acknowledged is there, with its ring
    assert {job.id for job in house.jobs.list(TENANT).items} <= set(made)
    assert sum(house.jobs.count_by_state().values()) == len(made) == house.outbox.waiting()

    # When there is room, then it goes on
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert house.submit().id not in made
    database.close()
