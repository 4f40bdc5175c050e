"""How long things last: the clock settings of the queue."""

from dataclasses import dataclass
from typing import Self

from contract.settings import Settings

_LONGEST_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Bounds in seconds on the database's clock, and how often a job may be started."""

    #: A running job whose worker is silent for so long is given to another.
    lease_seconds: float = 60
    #: Wait before a lost job is tried again; doubles with each attempt.
    retry_backoff_seconds: float = 5
    max_attempts: int = 3
    #: A queued job that nobody claims is rung for again after so long.
    ring_again_seconds: float = 60
    #: A worker counts as alive for so long after its last word.
    live_seconds: float = 30

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The terms that the settings set."""
        return cls(
            lease_seconds=settings.lease_seconds,
            retry_backoff_seconds=settings.retry_backoff_seconds,
            max_attempts=settings.max_attempts,
            ring_again_seconds=settings.ring_again_seconds,
        )

    def backoff_after(self, attempt: int) -> float:
        """Seconds to wait after this attempt, counted from 1, was lost."""
        return min(self.retry_backoff_seconds * 2.0 ** min(attempt - 1, 30), _LONGEST_BACKOFF_SECONDS)


STANDARD_TERMS = Terms()
