"""What the keeper does: everything is compare-and-swap, so any number of keepers may run."""

from storage.database import Database
from storage.terms import Terms


class Upkeep:
    """Puts right what time has undone; each method returns how many jobs it touched."""

    def __init__(self, database: Database, terms: Terms = Terms()) -> None:
        self._database = database
        self._terms = terms

    def reap(self) -> int:
        """Take jobs whose lease ran out from their workers: queued again, failed or canceled."""
        raise NotImplementedError

    def fail_overdue(self) -> int:
        """Fail queued jobs that waited too long for their first start, or whose deadline passed."""
        raise NotImplementedError

    def sweep(self) -> int:
        """Ring again for jobs that sit queued unheard."""
        raise NotImplementedError

    def expire(self) -> int:
        """Delete ended jobs whose time is up."""
        raise NotImplementedError
