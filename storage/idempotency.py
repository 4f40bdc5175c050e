"""Answers kept by Idempotency-Key, so that a write can be repeated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from storage.database import Database
from storage.values import Answer, Ticket

T = TypeVar("T")


@dataclass(frozen=True)
class Reply(Generic[T]):
    """What is to be answered once the resource is written, in the same transaction."""

    ticket: Ticket
    #: Makes the answer out of the resource.
    answer: Callable[[T], Answer]


class Idempotency:
    """The keys of every tenant, each for 24 hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, tenant: str, key: str, *, fingerprint: str) -> Ticket | Answer:
        """The right to answer, or the answer that was given.

        Raises `IdempotencyKeyInFlight` and `IdempotencyKeyReused`.
        """
        raise NotImplementedError

    def conclude(self, ticket: Ticket, answer: Answer) -> None:
        """Keep an answer that writes no resource; raises `IdempotencyKeyInFlight` where the ticket was taken over."""
        raise NotImplementedError

    def abandon(self, ticket: Ticket) -> None:
        """Free the key of a request that was refused or failed."""
        raise NotImplementedError

    def forget(self) -> int:
        """Drop what is older than 24 hours; returns how many."""
        raise NotImplementedError
