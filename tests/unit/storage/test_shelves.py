"""Where blobs lie: what every shelf promises."""

import os
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from contract.failures import ContentGone, Unavailable
from storage.shelves import Folder, Objects, Shelf, shelf_at

KEY = "t-ours/ab/abcd.0"


@pytest.fixture(params=["folder", "memory", "local"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A shelf of each kind; an object store over a folder stands in for S3."""
    if request.param == "folder":
        return Folder(tmp_path / "shelf")
    store = MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "shelf", mkdir=True)
    return Objects(store, inbox=tmp_path / "spool")


def _put(shelf: Shelf, content: bytes, key: str = KEY) -> None:
    file = shelf.inbox / "arriving"
    file.write_bytes(content)
    shelf.put(file, key)


def test_what_is_put_is_read(shelf: Shelf) -> None:
    # Given more bytes than one piece holds
    content = os.urandom(9_000_000)
    _put(shelf, content)

    # When they are read whole and in part, then they are those
    assert shelf.size(KEY) == len(content)
    assert b"".join(shelf.read(KEY, 0, len(content))) == content
    assert b"".join(shelf.read(KEY, 8_388_600, 8_388_620)) == content[8_388_600:8_388_620]
    assert b"".join(shelf.read(KEY, 5, 5)) == b""


def test_a_reader_holds_only_a_piece_at_a_time(shelf: Shelf) -> None:
    # Given many bytes, when they are read, then they come in pieces of bounded size
    _put(shelf, bytes(20_000_000))
    assert max(len(piece) for piece in shelf.read(KEY, 0, 20_000_000)) <= 8 * 2**20


def test_what_is_deleted_is_gone(shelf: Shelf) -> None:
    # Given bytes, when they are deleted twice, then they are gone and nothing else happens
    _put(shelf, b"bytes")
    shelf.delete(KEY)
    shelf.delete(KEY)
    assert shelf.size(KEY) is None
    with pytest.raises(ContentGone):
        shelf.read(KEY, 0, 5)


def test_the_same_bytes_can_be_put_again(shelf: Shelf) -> None:
    # Given bytes that are there, when they are put again, then they are there
    _put(shelf, b"same")
    _put(shelf, b"same")
    assert b"".join(shelf.read(KEY, 0, 4)) == b"same"


def test_a_folder_says_where_its_bytes_lie(tmp_path: Path) -> None:
    # Given a folder with a space in its name, when it is opened by its URL, then bytes lie in it
    shelf = shelf_at((tmp_path / "my blobs").as_uri(), spool=tmp_path / "spool")
    _put(shelf, b"bytes")
    path = shelf.path(KEY)
    assert path == tmp_path / "my blobs" / KEY
    assert path.read_bytes() == b"bytes"


def test_an_object_store_lies_nowhere_on_this_machine(tmp_path: Path) -> None:
    # Given an object store, when it is opened by its URL, then its bytes have no path, and the spool is empty
    shelf = shelf_at("memory:///", spool=tmp_path / "spool")
    _put(shelf, b"bytes")
    assert shelf.path(KEY) is None
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_store_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an S3 that nobody runs
    plain = {"ENDPOINT_URL": "http://127.0.0.1:1", "ALLOW_HTTP": "true", "REGION": "here"}
    for name, value in {**plain, "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    shelf = shelf_at("s3://bucket/prefix", spool=tmp_path / "spool")

    # When it is asked for anything, then the failure says that it may come back
    for act in (lambda: shelf.size(KEY), lambda: shelf.delete(KEY), lambda: _put(shelf, b"bytes")):
        with pytest.raises(Unavailable):
            act()
