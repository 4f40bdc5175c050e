"""Who is there to work."""

from contract.worker import LiveWorker, WorkerCard
from storage.database import Database
from storage.terms import Terms


class Workers:
    """The workers, as of their last word."""

    def __init__(self, database: Database, terms: Terms = Terms()) -> None:
        self._database = database
        self._terms = terms

    def announce(self, card: WorkerCard, *, busy: int = 0) -> None:
        """Say that this worker is there; to be repeated well within `live_seconds`."""
        raise NotImplementedError

    def leave(self, worker_id: str) -> None:
        """Say that this worker shuts down."""
        raise NotImplementedError

    def live(self) -> tuple[LiveWorker, ...]:
        """Workers heard of within `live_seconds`."""
        raise NotImplementedError
