"""What models and datasets have in common: they get their content once, and go when no open job needs them."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from contract.failures import ContentGone, InUse, InvalidState, NotFound
from contract.job import JobState
from contract.model import ContentState
from storage.columns import now
from storage.database import Database
from storage.idempotency import Reply, conclude
from storage.identity import Kind, new_id
from storage.paging import FIRST_PAGE, Identified, Page, Window
from storage.schema import job_inputs, jobs
from storage.values import Blob

R = TypeVar("R", bound=Identified)

_OPEN = tuple(state.value for state in JobState if not state.done)
_AWAITING = ContentState.AWAITING_CONTENT.value


class Resources(Generic[R]):
    """The resources of one kind, of every tenant."""

    def __init__(self, database: Database, *, kind: Kind, table: Table, read: Callable[[Row[Any]], R]) -> None:
        self._database = database
        self._kind = kind
        self._table = table
        self._read = read

    def get(self, tenant: str, resource_id: str) -> R:
        """Raises `NotFound`."""
        with self._database.read() as connection:
            return self._read(self._row(connection, tenant, resource_id))

    def list(self, tenant: str, window: Window = FIRST_PAGE) -> Page[R]:
        """Newest first."""
        ids = self._table.c.id
        query = select(self._table).where(self._table.c.tenant == tenant, *window.conditions(ids))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(ids.desc()).limit(window.limit + 1)).all()
        return Page.of([self._read(row) for row in rows], window)

    def await_content(self, tenant: str, resource_id: str, *, sha256: str | None = None) -> R:
        """The resource, if what is announced by this digest may be sent; raises `NotFound` and `InvalidState`.

        Where it has its content, the same may come again; without a digest only the bytes can tell.
        """
        with self._database.read() as connection:
            row = self._row(connection, tenant, resource_id)
        if row.state != _AWAITING and sha256 not in (None, row.sha256):
            raise _has_content(row)
        return self._read(row)

    def set_content(self, tenant: str, resource_id: str, blob: Blob) -> R:
        """Give it its bytes, once; giving it the same again does no harm.

        Raises `NotFound`, `InvalidState` where it has others, and `ContentGone` where they were collected meanwhile.
        """
        try:
            with self._database.write() as connection:
                return self._set_content(connection, tenant, resource_id, blob)
        except IntegrityError as error:
            raise ContentGone from error

    def delete(self, tenant: str, resource_id: str) -> None:
        """Raises `NotFound`, and `InUse` where an open job needs it."""
        with self._database.write() as connection:
            # A job that is being submitted holds a share of this row: wait for it, then look who needs it.
            self._row(connection, tenant, resource_id, lock=True)
            user = connection.execute(_open_job_with(resource_id)).scalar_one_or_none()
            if user is not None:
                raise InUse(f"{user} is open and needs this.")
            connection.execute(delete(self._table).where(self._at(tenant, resource_id)))

    def _add(self, tenant: str, *, reply: Reply[R] | None, **values: Any) -> R:
        fresh = {"id": new_id(self._kind), "tenant": tenant, "state": _AWAITING, "created_at": now()}
        with self._database.write() as connection:
            statement = insert(self._table).values(**fresh, **values).returning(self._table)
            resource = self._read(connection.execute(statement).one())
            if reply is not None:
                conclude(connection, reply.ticket, reply.answer(resource))
        return resource

    def _set_content(self, connection: Connection, tenant: str, resource_id: str, blob: Blob) -> R:
        content = {"state": ContentState.READY.value, "sha256": blob.sha256, "size_bytes": blob.size_bytes}
        empty = and_(self._at(tenant, resource_id), self._table.c.state == _AWAITING)
        row = connection.execute(
            update(self._table).where(empty).values(**content).returning(self._table)
        ).one_or_none()
        if row is None:
            row = self._row(connection, tenant, resource_id)
            if row.sha256 != blob.sha256:
                raise _has_content(row)
        return self._read(row)

    def _at(self, tenant: str, resource_id: str) -> ColumnElement[bool]:
        return and_(self._table.c.id == resource_id, self._table.c.tenant == tenant)

    def _row(self, connection: Connection, tenant: str, resource_id: str, *, lock: bool = False) -> Row[Any]:
        query = select(self._table).where(self._at(tenant, resource_id))
        row = connection.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise NotFound("There is nothing under this id.")
        return row


def _open_job_with(resource_id: str) -> Any:
    joined = jobs.join(job_inputs, job_inputs.c.job_id == jobs.c.id)
    needs = and_(job_inputs.c.resource_id == resource_id, jobs.c.state.in_(_OPEN))
    return select(jobs.c.id).select_from(joined).where(needs).limit(1)


def _has_content(row: Row[Any]) -> InvalidState:
    return InvalidState(
        "It has its content already, and other bytes than these.", state=row.state, allowed=(_AWAITING,)
    )
