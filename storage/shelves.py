"""Where blobs lie: a folder, or an object store. Whoever writes a key again writes the same bytes."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore
from obstore.store import from_url as object_store_at

from contract.failures import ContentGone, StorageFull, Unavailable

#: Bytes of one piece of what is read.
_LOCAL_PIECE = 1024**2
_REMOTE_PIECE = 8 * 1024**2

#: A store that stays away is told to the client while it still waits.
_PATIENCE = timedelta(seconds=20)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Shelf(Protocol):
    """Bytes by key; `inbox` is a local folder where files are gathered before they are put."""

    inbox: Path

    def put(self, file: Path, key: str) -> None:
        """Move a file of the inbox under its key, whole and durable; raises `StorageFull` or `Unavailable`.

        What lies there already is replaced at once.
        """
        ...

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Pieces of the bytes from `start` up to but without `end`; raises `ContentGone` before the first."""
        ...

    def size(self, key: str) -> int | None:
        """How many bytes lie there; null where there is nothing."""
        ...

    def delete(self, key: str) -> None:
        """Drop what lies there; nothing may."""
        ...

    def path(self, key: str) -> Path | None:
        """The file that holds the bytes, where it is one of this machine."""
        ...


def shelf_at(url: str, *, spool: Path) -> Shelf:
    """A shelf by its URL: `file:///path`, or any that obstore knows, such as `s3://bucket/prefix`."""
    if url.startswith("file://"):
        return Folder(Path(unquote(urlsplit(url).path)))
    store = object_store_at(url, retry_config={"max_retries": 5, "retry_timeout": _PATIENCE})
    return Objects(store, inbox=spool)


@contextmanager
def room_needed() -> Iterator[None]:
    """Name the failure of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull from error
        raise


class Folder:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.inbox = root / "inbox"
        self.inbox.mkdir(parents=True, exist_ok=True)

    def put(self, file: Path, key: str) -> None:
        """Rename, so that the bytes appear at once or not at all; an open reader keeps those that it has."""
        place = self._root / key
        with room_needed():
            _make_folder(place.parent, below=self._root)
            file.rename(place)
            _sync_folder(place.parent)

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """From an open file: what is deleted meanwhile is still read to its end."""
        pieces = _pieces_of_file(self._root / key, start, end)
        next(pieces)
        return pieces

    def size(self, key: str) -> int | None:
        """By its metadata."""
        try:
            return (self._root / key).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Unlink; empty folders stay, for another writer may be about to use them."""
        (self._root / key).unlink(missing_ok=True)

    def path(self, key: str) -> Path | None:
        """Under the root."""
        return self._root / key


class Objects:
    """An object store."""

    def __init__(self, store: ObjectStore, *, inbox: Path) -> None:
        self._store = store
        self.inbox = inbox
        self.inbox.mkdir(parents=True, exist_ok=True)

    def put(self, file: Path, key: str) -> None:
        """Upload, in parts where it is large; the store shows an object only when it is whole."""
        with _store_answers():
            obstore.put(self._store, key, file, chunk_size=_REMOTE_PIECE, max_concurrency=4)
        file.unlink()

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """One request for each piece: a slow reader holds no connection open, and each is retried by itself."""
        if self.size(key) is None:
            raise ContentGone
        return self._pieces(key, start, end)

    def size(self, key: str) -> int | None:
        """By a HEAD request."""
        try:
            with _store_answers():
                return obstore.head(self._store, key)["size"]
        except ContentGone:
            return None

    def delete(self, key: str) -> None:
        """Delete the object."""
        try:
            with _store_answers():
                obstore.delete(self._store, key)
        except ContentGone:
            return

    def path(self, key: str) -> Path | None:
        """Nowhere on this machine."""
        del key
        return None

    def _pieces(self, key: str, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _REMOTE_PIECE):
            with _store_answers():
                piece = obstore.get_range(self._store, key, start=at, end=min(at + _REMOTE_PIECE, end))
            yield bytes(piece)


@contextmanager
def _store_answers() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ContentGone from error
    except BaseError as error:
        raise Unavailable("The blob store does not answer.", retry_after=5) from error


def _pieces_of_file(path: Path, start: int, end: int) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise ContentGone from error
    with file:
        # The first step opens, so that a lost file is known before anything of it is promised.
        yield b""
        file.seek(start)
        left = end - start
        while left > 0 and (piece := file.read(min(_LOCAL_PIECE, left))):
            yield piece
            left -= len(piece)


def _make_folder(folder: Path, *, below: Path) -> None:
    if folder == below or folder.is_dir():
        return
    _make_folder(folder.parent, below=below)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # A rename is durable only when the folder that bears the name is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
