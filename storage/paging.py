"""Lists in pages, newest first, with an opaque cursor."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from sqlalchemy import Column, ColumnElement

from contract.failures import Fault, InvalidRequest

MAX_LIMIT = 100


class Identified(Protocol):
    """A resource with an id that sorts by time."""

    @property
    def id(self) -> str:
        """The id."""
        ...


T = TypeVar("T", bound=Identified)


@dataclass(frozen=True)
class Window:
    """Which part of a list is asked for."""

    #: How many, 1 to 100.
    limit: int = 20
    #: The `next_cursor` of the page before.
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise _fault("limit", f"The limit must lie between 1 and {MAX_LIMIT}.")

    def conditions(self, ids: Column[str]) -> tuple[ColumnElement[bool], ...]:
        """What the ids of the page meet; raises `InvalidRequest` where the cursor is none of ours."""
        return () if self.after is None else (ids < _id_in(self.after),)


FIRST_PAGE = Window()


@dataclass(frozen=True)
class Page(Generic[T]):
    """One part of a list."""

    items: tuple[T, ...]
    #: Where the next page starts; null on the last one.
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """Whether there is a next page."""
        return self.next_cursor is not None

    @classmethod
    def of(cls, found: Sequence[T], window: Window) -> Self:
        """A page out of at most `limit + 1` items, newest first."""
        items = tuple(found[: window.limit])
        return cls(items, _cursor_at(items[-1].id) if len(found) > window.limit else None)


def _cursor_at(resource_id: str) -> str:
    return urlsafe_b64encode(resource_id.encode()).decode().rstrip("=")


def _id_in(cursor: str) -> str:
    try:
        return b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:
        raise _fault("after", "The cursor is none that this service gave.") from error


def _fault(parameter: str, detail: str) -> InvalidRequest:
    return InvalidRequest(detail, errors=[Fault(pointer=f"/{parameter}", code=InvalidRequest.code, detail=detail)])
