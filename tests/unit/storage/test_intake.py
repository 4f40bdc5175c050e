"""Bytes on their way in."""

import hashlib
from pathlib import Path

import pytest

from contract.failures import StorageFull
from storage.intake import Writer, check_room
from storage.values import Blob


def test_bytes_stay_hidden_until_they_are_placed(tmp_path: Path) -> None:
    # Given a writer
    placed: list[tuple[bytes, int, Blob]] = []

    def place(file: Path, blob: Blob) -> None:
        placed.append((file.read_bytes(), file.stat().st_mode & 0o777, blob))

    # When bytes come, then nothing is placed until they are committed; then it is, read-only and whole
    with Writer(tmp_path, keep_free=0, place=place) as writer:
        writer.write(b"some ")
        writer.write(b"")
        writer.write(b"bytes")
        assert placed == []
        blob = writer.commit()
    assert placed == [(b"some bytes", 0o440, blob)]
    assert blob == Blob(hashlib.sha256(b"some bytes").hexdigest(), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_stops_an_upload_of_unknown_length(tmp_path: Path) -> None:
    # Given a disk that is to keep more free than it has
    writer = Writer(tmp_path, keep_free=2**60, place=lambda file, blob: None)

    # When bytes keep coming, then they are refused once it is looked at, and nothing is left
    def keep_coming() -> None:
        for _ in range(64):
            writer.write(bytes(2**20))

    with pytest.raises(StorageFull):
        keep_coming()
    assert writer.size_bytes <= 32 * 2**20
    assert list(tmp_path.iterdir()) == []


def test_room_is_looked_at_before_the_bytes_come(tmp_path: Path) -> None:
    # Given a disk, when more is wanted than it has, or than it may give, then that is refused
    check_room(tmp_path, wanted=1, keep_free=0)
    for wanted, keep_free in ((2**60, 0), (1, 2**60)):
        with pytest.raises(StorageFull):
            check_room(tmp_path, wanted=wanted, keep_free=keep_free)
