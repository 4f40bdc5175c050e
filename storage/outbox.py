"""What must still be sent: rings at the doorbell. At least once, by any number of relays."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from contract.ring import Device
from storage.columns import now, seconds_from_now
from storage.database import Database
from storage.schema import rings
from storage.transitions import ring

#: A relay that takes a ring has so long to send it.
_TAKEN_SECONDS = 30

#: Pauses after the first failures, in seconds; the last one stays.
_PAUSES = (1, 2, 4, 8, 16, 30)


@dataclass(frozen=True)
class Ring:
    """One ring that is due."""

    id: int
    #: The queue to ring.
    device: Device
    #: How often it was tried before.
    tries: int


class Outbox:
    """Rings, written in the transaction of the change that wants them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ring(self, devices: Sequence[str]) -> None:
        """Ask for one ring at the queue of each of these devices."""
        with self._database.write() as connection:
            ring(connection, devices)

    def due(self, *, limit: int = 100) -> tuple[Ring, ...]:
        """Take rings to send, oldest first; those neither marked sent nor failed within 30 s are due again."""
        if not self._any_due():
            return ()
        oldest = select(rings.c.id).where(rings.c.due_at <= now()).order_by(rings.c.due_at, rings.c.id).limit(limit)
        taken = update(rings).where(rings.c.id.in_(oldest.with_for_update(skip_locked=True)))
        statement = taken.values(due_at=seconds_from_now(_TAKEN_SECONDS)).returning(rings)
        with self._database.write() as connection:
            rows = connection.execute(statement).all()
        return tuple(Ring(row.id, row.device, row.tries) for row in sorted(rows, key=lambda row: row.id))

    def mark_sent(self, sent: Sequence[Ring]) -> None:
        """Drop what was sent."""
        with self._database.write() as connection:
            connection.execute(delete(rings).where(rings.c.id.in_([one.id for one in sent])))

    def mark_failed(self, failed: Sequence[Ring]) -> None:
        """Try again later: after 1 s, doubling up to 30 s."""
        with self._database.write() as connection:
            for one in failed:
                pause = _PAUSES[min(one.tries, len(_PAUSES) - 1)]
                again = {"tries": rings.c.tries + 1, "due_at": seconds_from_now(pause)}
                connection.execute(update(rings).where(rings.c.id == one.id).values(**again))

    def waiting(self) -> int:
        """How many are not sent."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(rings)).scalar_one()

    def _any_due(self) -> bool:
        # Looking takes no lock; on SQLite writers would wait for it.
        with self._database.read() as connection:
            return connection.execute(select(rings.c.id).where(rings.c.due_at <= now()).limit(1)).first() is not None
