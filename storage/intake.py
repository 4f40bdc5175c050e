"""Bytes on their way in: hashed as they come, in a file that nobody sees."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from contract.failures import DigestMismatch, StorageFull
from storage.identity import new_ulid
from storage.shelves import room_needed
from storage.values import Blob

#: Free space is looked at again after so many bytes.
_LOOK_EVERY = 32 * 1024**2

#: How what has arrived finds its place: takes the file and its description.
Placing = Callable[[Path, Blob], None]

#: A look at the whole before anybody can see it; raises to refuse it.
Look = Callable[[BinaryIO], None]


def check_room(folder: Path, *, wanted: int, keep_free: int) -> None:
    """Raise `StorageFull` where so many bytes would not leave enough free."""
    if shutil.disk_usage(folder).free - wanted < keep_free:
        raise StorageFull


class Writer:
    """Bytes on their way in, invisible until `commit`. Leaving its block without it drops them.

    One thread at a time may use it; memory stays bounded whatever the size.
    """

    def __init__(self, inbox: Path, *, keep_free: int, place: Placing) -> None:
        self._inbox = inbox
        self._path = inbox / new_ulid()
        self._keep_free = keep_free
        self._place = place
        self._digest = hashlib.sha256()
        self._look_at = _LOOK_EVERY
        #: Bytes so far.
        self.size_bytes = 0
        with room_needed():
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)

    def write(self, chunk: bytes) -> None:
        """Add bytes; raises `StorageFull`, after which nothing of them is left."""
        self._digest.update(chunk)
        self.size_bytes += len(chunk)
        try:
            self._look_for_room()
            with room_needed():
                left = memoryview(chunk)
                while left:
                    left = left[self._file.write(left) :]
        except BaseException:
            self.abort()
            raise

    def commit(self, *, sha256: str | None = None, size_bytes: int | None = None, look: Look | None = None) -> Blob:
        """Make the bytes durable and visible.

        Raises `DigestMismatch` where they are not those announced, what `look` raises, `StorageFull`, `Unavailable`;
        nothing is left then.
        """
        blob = Blob(self._digest.hexdigest(), self.size_bytes)
        try:
            _check(blob, sha256=sha256, size_bytes=size_bytes)
            if look is not None:
                with self._path.open("rb") as file:
                    look(file)
            with room_needed():
                os.fchmod(self._file.fileno(), 0o440)
                os.fsync(self._file.fileno())
            self._file.close()
            self._place(self._path, blob)
        finally:
            self.abort()
        return blob

    def abort(self) -> None:
        """Drop the bytes; after `commit` this does nothing."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _look_for_room(self) -> None:
        if self.size_bytes >= self._look_at:
            self._look_at = self.size_bytes + _LOOK_EVERY
            check_room(self._inbox, wanted=0, keep_free=self._keep_free)


def _check(blob: Blob, *, sha256: str | None, size_bytes: int | None) -> None:
    if size_bytes is not None and size_bytes != blob.size_bytes:
        raise DigestMismatch(f"{blob.size_bytes} bytes arrived where {size_bytes} were announced.")
    if sha256 is not None and sha256 != blob.sha256:
        raise DigestMismatch(f"The SHA-256 of what arrived is {blob.sha256}, announced was {sha256}.")
