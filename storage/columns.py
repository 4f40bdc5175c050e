"""What a column can hold that SQL has no portable word for: instants, documents, the database's clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import BigInteger, ColumnElement, Dialect, Text, TypeDecorator, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An instant as microseconds since 1970 UTC: the same arithmetic on both databases, and no time zone to forget."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Microseconds of an aware datetime."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """An aware datetime in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Document(TypeDecorator[T], Generic[T]):
    """A value of the contract as JSON text, validated on its way out; SQL never looks into it.

    `outdated` makes a value of a text that is not valid any more; without it such a text raises pydantic's
    `ValidationError`.
    """

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any, outdated: Callable[[str, ValidationError], T] | None = None) -> None:
        super().__init__()
        self.outdated = outdated
        #: Tells one column's type from another's in SQLAlchemy's cache of statements.
        self.kind = kind
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)

    def process_bind_param(self, value: T | None, dialect: Dialect) -> str | None:
        """JSON."""
        return None if value is None else self._adapter.dump_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> T | None:
        """The value."""
        try:
            return None if value is None else self._adapter.validate_json(value)
        except ValidationError as error:
            if value is None or self.outdated is None:
                raise
            return self.outdated(value, error)


class now(GenericFunction[int]):  # noqa: N801 - named as SQL's functions are
    """The database's clock when the statement began, in microseconds since 1970 UTC."""

    type = BigInteger()
    inherit_cache = True
    name = "modelpress_now"


@compiles(now, "postgresql")
def _now_on_postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    # Stable within the statement, so that an index can serve `available_at <= now()`.
    return "(extract(epoch from statement_timestamp()) * 1000000)::bigint"


def seconds_from_now(seconds: float) -> ColumnElement[int]:
    """The database's clock so much later; earlier where negative."""
    return now() + microseconds_of(seconds)


def microseconds_of(seconds: float) -> int:
    """A duration as it is added to an instant."""
    return round(seconds * 1_000_000)


def microseconds(seconds: ColumnElement[int]) -> ColumnElement[int]:
    """A column of whole seconds, to be added to an instant."""
    return cast(seconds, BigInteger) * 1_000_000
