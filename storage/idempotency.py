"""Answers kept by Idempotency-Key, so that a write can be repeated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from contract.failures import IdempotencyKeyInFlight, IdempotencyKeyReused
from storage.columns import now, seconds_from_now
from storage.database import Database
from storage.identity import new_ulid
from storage.schema import idempotency
from storage.values import Answer, Ticket

#: For so long an answer is given again.
KEEP_SECONDS = 24 * 3600

#: A request that is not answered after so long has died with its process.
IN_FLIGHT_SECONDS = 60

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

        `fingerprint` is a SHA-256 of all that makes the request. Raises `IdempotencyKeyInFlight` and
        `IdempotencyKeyReused`.
        """
        ticket = Ticket(tenant=tenant, key=key, token=new_ulid())
        try:
            with self._database.write() as connection:
                return _begin(connection, ticket, fingerprint)
        except IntegrityError as error:
            # Another process has written the same key since we looked.
            raise IdempotencyKeyInFlight(retry_after=1) from error

    def conclude(self, ticket: Ticket, answer: Answer) -> None:
        """Keep an answer that writes no resource; raises `IdempotencyKeyInFlight` where the ticket was taken over."""
        with self._database.write() as connection:
            conclude(connection, ticket, answer)

    def abandon(self, ticket: Ticket) -> None:
        """Free the key of a request that was refused or failed."""
        with self._database.write() as connection:
            connection.execute(delete(idempotency).where(_open(ticket)))

    def forget(self) -> int:
        """Drop what is older than 24 hours; returns how many."""
        with self._database.write() as connection:
            old = idempotency.c.begun_at < seconds_from_now(-KEEP_SECONDS)
            return connection.execute(delete(idempotency).where(old)).rowcount


def conclude(connection: Connection, ticket: Ticket, answer: Answer) -> None:
    """Keep an answer in the transaction that writes what it tells of."""
    values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    if connection.execute(update(idempotency).where(_open(ticket)).values(**values)).rowcount != 1:
        raise IdempotencyKeyInFlight("Another request has taken over this Idempotency-Key.", retry_after=1)


def _open(ticket: Ticket) -> ColumnElement[bool]:
    return and_(_at(ticket), idempotency.c.token == ticket.token, idempotency.c.status.is_(None))


def _at(ticket: Ticket) -> ColumnElement[bool]:
    return and_(idempotency.c.tenant == ticket.tenant, idempotency.c.key == ticket.key)


def _begin(connection: Connection, ticket: Ticket, fingerprint: str) -> Ticket | Answer:
    fresh = {"fingerprint": fingerprint, "token": ticket.token, "begun_at": now()}
    row = _found(connection, ticket)
    if row is None:
        connection.execute(insert(idempotency).values(tenant=ticket.tenant, key=ticket.key, **fresh))
        return ticket
    if row.forgotten:
        empty = {"status": None, "headers": None, "body": None}
        connection.execute(update(idempotency).where(_at(ticket)).values(**fresh, **empty))
        return ticket
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReused
    if row.status is not None:
        return Answer(status=row.status, headers=row.headers, body=row.body)
    if not row.dead:
        raise IdempotencyKeyInFlight(retry_after=1)
    connection.execute(update(idempotency).where(_at(ticket)).values(**fresh))
    return ticket


def _found(connection: Connection, ticket: Ticket) -> Row[Any] | None:
    begun = idempotency.c.begun_at
    forgotten = (begun < seconds_from_now(-KEEP_SECONDS)).label("forgotten")
    dead = (begun < seconds_from_now(-IN_FLIGHT_SECONDS)).label("dead")
    query = select(idempotency, forgotten, dead).where(_at(ticket)).with_for_update()
    return connection.execute(query).one_or_none()
