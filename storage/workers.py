"""Who is there to work."""

from sqlalchemy import delete, insert, select, update

from contract.worker import LiveWorker, WorkerCard
from storage.columns import now, seconds_from_now
from storage.database import Database
from storage.schema import workers
from storage.terms import STANDARD_TERMS, Terms

#: A worker that is silent for so long is forgotten.
_FORGET_SECONDS = 24 * 3600


class Workers:
    """The workers, as of their last word."""

    def __init__(self, database: Database, terms: Terms = STANDARD_TERMS) -> None:
        self._database = database
        self._terms = terms

    def announce(self, card: WorkerCard, *, busy: int = 0) -> None:
        """Say that this worker is there; to be repeated well within `live_seconds`."""
        word = {"card": card, "busy": busy, "seen_at": now()}
        with self._database.write() as connection:
            # An id belongs to one start of one worker, so nobody else says the same at the same time.
            known = connection.execute(update(workers).where(workers.c.id == card.id).values(**word)).rowcount
            if not known:
                connection.execute(insert(workers).values(id=card.id, **word))

    def leave(self, worker_id: str) -> None:
        """Say that this worker shuts down."""
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker_id))

    def live(self) -> tuple[LiveWorker, ...]:
        """Workers heard of within `live_seconds`, by id."""
        heard = workers.c.seen_at > seconds_from_now(-self._terms.live_seconds)
        with self._database.read() as connection:
            rows = connection.execute(select(workers).where(heard).order_by(workers.c.id)).all()
        return tuple(LiveWorker(**dict(row.card), busy=row.busy, seen_at=row.seen_at) for row in rows)

    def forget(self) -> int:
        """Drop workers that have been silent for a day; returns how many."""
        with self._database.write() as connection:
            gone = workers.c.seen_at < seconds_from_now(-_FORGET_SECONDS)
            return connection.execute(delete(workers).where(gone)).rowcount
