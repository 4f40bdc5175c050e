"""Content-addressed bytes, on a folder or in an S3-compatible store."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.database import Database
from storage.values import Blob


class Writer:
    """Bytes on their way in: hashed as they come, invisible until `commit`. Leaving the block without it aborts."""

    size_bytes: int

    def write(self, chunk: bytes) -> None:
        """Add bytes; raises `StorageFull`."""
        raise NotImplementedError

    def commit(self, *, sha256: str | None = None, size_bytes: int | None = None) -> Blob:
        """Make the bytes durable and visible; raises `DigestMismatch` where they are not those announced."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drop the bytes; after `commit` this does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError


class Blobs:
    """The blobs of every tenant, shared by digest within a tenant."""

    def writer(self, tenant: str, *, expected_bytes: int = 0) -> Writer:
        """A way in; raises `StorageFull` at once where `expected_bytes` would not fit."""
        raise NotImplementedError

    def add_file(self, tenant: str, path: Path) -> Blob:
        """Keep a copy of a file."""
        raise NotImplementedError

    def read(self, tenant: str, sha256: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to but without `end`, in chunks; raises `ContentGone`."""
        raise NotImplementedError

    def local_path(self, tenant: str, sha256: str) -> Path | None:
        """Where the bytes lie on this machine, to be only read; null where the store is remote."""
        raise NotImplementedError

    def copy_to(self, tenant: str, sha256: str, *, path: Path) -> None:
        """Write the bytes to a new read-only file, checking the digest; raises `ContentGone`, `InputCorrupt`."""
        raise NotImplementedError

    def garbage(self) -> int:
        """Mark what nothing refers to, delete what was marked a while ago; returns how many were deleted."""
        raise NotImplementedError

    def ping(self) -> None:
        """Raise `Unavailable` where the store does not answer."""
        raise NotImplementedError


def open_blobs(url: str, database: Database, *, spool: Path, min_free_bytes: int = 0) -> Blobs:
    """A store by its URL: `file:///path`, `s3://bucket/prefix` (credentials from the environment) or `memory:///`.

    `spool` is a local folder where bytes for a remote store are gathered and checked before they are sent.
    """
    raise NotImplementedError
