"""Content-addressed bytes: a row in SQL for each digest of a tenant, and a key under which a shelf holds the bytes.

A key is made for one row and never used again, so that bytes whose row is gone may be deleted at any time, by anyone,
however late: nobody can have come to need them. Rows that refer to a blob do so by foreign key, and so the database
itself refuses to drop a blob that is needed, and to refer to one that was dropped.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Row, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from contract.failures import ContentGone, InputCorrupt, Unavailable
from storage.columns import seconds_from_now
from storage.database import Database
from storage.garbage import PIN_SECONDS, Garbage
from storage.identity import new_ulid
from storage.intake import Writer, check_room
from storage.schema import blobs
from storage.shelves import Shelf, room_needed, shelf_at
from storage.values import Blob

_COPY_PIECE = 1024**2


class Blobs:
    """The blobs of every tenant, shared by digest within a tenant."""

    def __init__(self, database: Database, shelf: Shelf, *, min_free_bytes: int = 0) -> None:
        self._database = database
        self._shelf = shelf
        self._min_free_bytes = min_free_bytes

    def writer(self, tenant: str, *, expected_bytes: int = 0) -> Writer:
        """A way in; raises `StorageFull` at once where `expected_bytes` would not fit."""
        check_room(self._shelf.inbox, wanted=expected_bytes, keep_free=self._min_free_bytes)
        return Writer(
            self._shelf.inbox,
            keep_free=self._min_free_bytes,
            place=lambda file, blob: self._place(tenant, file, blob),
        )

    def renew(self, tenant: str, waiting: Iterable[Blob]) -> None:
        """Pin blobs anew that still wait for the rows that will refer to them."""
        mine = and_(blobs.c.tenant == tenant, blobs.c.sha256.in_([blob.sha256 for blob in waiting]))
        with self._database.write() as connection:
            connection.execute(update(blobs).where(mine).values(**_pinned()))

    def add_file(self, tenant: str, path: Path) -> Blob:
        """Keep a copy of a file; raises as a writer does."""
        with path.open("rb") as source, self.writer(tenant, expected_bytes=path.stat().st_size) as writer:
            while piece := source.read(_COPY_PIECE):
                writer.write(piece)
            return writer.commit()

    def read(self, tenant: str, sha256: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to but without `end`, in pieces; raises `ContentGone` before the first."""
        row = self._present(tenant, sha256)
        return self._shelf.read(row.key, start, row.size_bytes if end is None else min(end, row.size_bytes))

    def local_path(self, tenant: str, sha256: str) -> Path | None:
        """The file that holds the bytes, to be read and never written; null where the store is remote.

        Raises `ContentGone`.
        """
        return self._shelf.path(self._present(tenant, sha256).key)

    def copy_to(self, tenant: str, sha256: str, *, path: Path) -> None:
        """Write the bytes to a new read-only file; raises `InputCorrupt` where they are not those that were stored."""
        digest = hashlib.sha256()
        pieces = self._pieces_of_input(tenant, sha256)
        with room_needed(), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440), "wb") as target:
            for piece in pieces:
                digest.update(piece)
                target.write(piece)
        if digest.hexdigest() != sha256:
            raise InputCorrupt

    def garbage(self) -> int:
        """Mark what nothing refers to, drop what was marked a while ago; returns how many were dropped."""
        return Garbage(self._database, self._shelf).collect()

    def ping(self) -> None:
        """Raise `Unavailable` where the store does not answer."""
        try:
            self._shelf.size("nothing-lies-here")
            check_room(self._shelf.inbox, wanted=0, keep_free=0)
        except OSError as error:
            raise Unavailable("The blob store does not answer.", retry_after=5) from error

    def _pieces_of_input(self, tenant: str, sha256: str) -> Iterator[bytes]:
        try:
            return self.read(tenant, sha256)
        except ContentGone as error:
            raise InputCorrupt from error

    def _present(self, tenant: str, sha256: str) -> Row[Any, Any]:
        here = and_(blobs.c.tenant == tenant, blobs.c.sha256 == sha256, blobs.c.present)
        with self._database.read() as connection:
            row = connection.execute(select(blobs.c.key, blobs.c.size_bytes).where(here)).one_or_none()
        if row is None:
            raise ContentGone
        return row

    def _place(self, tenant: str, file: Path, blob: Blob) -> None:
        key = self._pin(tenant, blob)
        # Also where the row says that they are there: a disk that lost or damaged them is given them again.
        self._shelf.put(file, key)
        if not self._arrived(key):
            self._shelf.delete(key)
            raise Unavailable("Storing took so long that the place was given up.", retry_after=1)

    def _arrived(self, key: str) -> bool:
        with self._database.write() as connection:
            return connection.execute(update(blobs).where(blobs.c.key == key).values(present=True)).rowcount == 1

    def _pin(self, tenant: str, blob: Blob) -> str:
        try:
            with self._database.write() as connection:
                return _pin(connection, tenant, blob)
        except IntegrityError:
            # Another writer of the same bytes was first; now its row is there to be pinned.
            with self._database.write() as connection:
                return _pin(connection, tenant, blob)


def open_blobs(url: str, database: Database, *, spool: Path, min_free_bytes: int = 0) -> Blobs:
    """A store by its URL: `file:///path`, or `s3://bucket/prefix` with credentials from the environment.

    `spool` is a local folder where bytes for a remote store are gathered and checked before they are sent.
    """
    return Blobs(database, shelf_at(url, spool=spool), min_free_bytes=min_free_bytes)


def _pin(connection: Connection, tenant: str, blob: Blob) -> str:
    mine = and_(blobs.c.tenant == tenant, blobs.c.sha256 == blob.sha256)
    pin = _pinned()
    key = connection.execute(update(blobs).where(mine).values(**pin).returning(blobs.c.key)).scalar_one_or_none()
    if key is None:
        key = _key(tenant, blob)
        fresh = {"tenant": tenant, "sha256": blob.sha256, "size_bytes": blob.size_bytes, "key": key}
        connection.execute(insert(blobs).values(present=False, **fresh, **pin))
    return key


def _pinned() -> dict[str, Any]:
    return {"pinned_until": seconds_from_now(PIN_SECONDS), "marked_at": None}


def _key(tenant: str, blob: Blob) -> str:
    return f"t-{quote(tenant, safe='')}/{blob.sha256[:2]}/{blob.sha256}.{new_ulid()}"
