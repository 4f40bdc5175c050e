"""What nothing refers to any more: marked first, deleted a while later."""

import time
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from storage.columns import now, seconds_from_now
from storage.database import Database
from storage.schema import artifacts, blobs, checkpoints, datasets, discarded, models
from storage.shelves import Shelf

#: Between a blob's arrival and the row that refers to it.
PIN_SECONDS = 1800

#: Between the mark and the end.
GRACE_SECONDS = 600

#: A file of the inbox that has not grown for so long has no writer any more.
_ABANDONED_SECONDS = 6 * 3600

#: Blobs dropped in one pass; what is left waits for the next.
_BATCH = 500


def _referred() -> ColumnElement[bool]:
    return or_(
        *(
            exists().where(table.c.tenant == blobs.c.tenant, table.c.sha256 == blobs.c.sha256)
            for table in (models, datasets, artifacts, checkpoints)
        )
    )


def _unneeded() -> ColumnElement[bool]:
    return and_(~_referred(), blobs.c.pinned_until < now())


def let_go(connection: Connection, *, tenant: str, sha256: str, since: datetime) -> None:
    """Let the next collector have a blob that a row referred to since then, and that nobody reads or needs any more."""
    mine = and_(blobs.c.tenant == tenant, blobs.c.sha256 == sha256, ~_referred())
    # A pin that lasts longer is of one who brought the same bytes later, and is about to refer to them.
    served = blobs.c.pinned_until <= since + timedelta(seconds=PIN_SECONDS)
    ripe = {"pinned_until": now(), "marked_at": seconds_from_now(-GRACE_SECONDS)}
    connection.execute(update(blobs).where(mine, served).values(**ripe))


class Garbage:
    """Collects blobs; any number of collectors may run."""

    def __init__(self, database: Database, shelf: Shelf, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._database = database
        self._shelf = shelf
        self._grace_seconds = grace_seconds

    def collect(self) -> int:
        """Mark what nothing refers to, drop what was marked a while ago; returns how many were dropped."""
        dropped = sum(self._drop(key) for key in self._ripe())
        self._mark()
        self._delete_discarded()
        self._empty_inbox()
        return dropped

    def _ripe(self) -> list[str]:
        ripe = and_(blobs.c.marked_at <= seconds_from_now(-self._grace_seconds), _unneeded())
        with self._database.read() as connection:
            return list(connection.execute(select(blobs.c.key).where(ripe).limit(_BATCH)).scalars())

    def _mark(self) -> None:
        fresh = and_(blobs.c.marked_at.is_(None), _unneeded())
        saved = and_(blobs.c.marked_at.is_not(None), _referred())
        with self._database.read() as connection:
            if connection.execute(select(blobs.c.key).where(or_(fresh, saved)).limit(1)).first() is None:
                return
        with self._database.write() as connection:
            connection.execute(update(blobs).where(saved).values(marked_at=None))
            connection.execute(update(blobs).where(fresh).values(marked_at=now()))

    def _drop(self, key: str) -> bool:
        try:
            with self._database.write() as connection:
                return self._drop_row(connection, key)
        except IntegrityError:
            # Someone has come to refer to it since we looked: the foreign key keeps it.
            return False

    def _drop_row(self, connection: Connection, key: str) -> bool:
        ripe = and_(blobs.c.key == key, blobs.c.marked_at <= seconds_from_now(-self._grace_seconds), _unneeded())
        if connection.execute(delete(blobs).where(ripe)).rowcount == 0:
            return False
        connection.execute(insert(discarded).values(key=key))
        return True

    def _delete_discarded(self) -> None:
        with self._database.read() as connection:
            keys = list(connection.execute(select(discarded.c.key).limit(_BATCH)).scalars())
        for key in keys:
            # The bytes go first: if we die in between, the next collector deletes them again, which does no harm.
            self._shelf.delete(key)
            with self._database.write() as connection:
                connection.execute(delete(discarded).where(discarded.c.key == key))

    def _empty_inbox(self) -> None:
        old = time.time() - _ABANDONED_SECONDS
        for file in self._shelf.inbox.iterdir():
            # A writer may end while we look.
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < old:
                    file.unlink()
