"""Writes that can be repeated: `Idempotency-Key` on every POST."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response

from contract.value import Value
from service.house import TENANT
from storage.idempotency import Idempotency, Reply
from storage.values import Answer

R = TypeVar("R")
_REPLAYED = "Idempotent-Replayed"
_JSON = "application/json"


@dataclass(frozen=True)
class Repeatable:
    """A write, as far as it can be told from another."""

    key: str | None
    #: SHA-256 of all that makes the request.
    fingerprint: str


Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating the call with the same key and body within 24 h gives the same answer.",
    ),
]


async def repeatable(request: Request, key: Key = None) -> Repeatable:
    """The write that this request asks for."""
    return Repeatable(key, fingerprint_of(request, await request.body()) if key else "")


def fingerprint_of(request: Request, *parts: bytes) -> str:
    """SHA-256 of the method, the target and the parts of the body."""
    digest = hashlib.sha256()
    target = (request.method, request.scope["path"], request.scope.get("query_string", b"").decode("latin-1"))
    for part in (*(word.encode("utf-8", "surrogatepass") for word in target), *parts):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


IsRepeatable = Annotated[Repeatable, Depends(repeatable)]


def answer_once(
    idempotency: Idempotency,
    write: Repeatable,
    *,
    act: Callable[[Reply[R] | None], R],
    answer: Callable[[R], Answer],
) -> Response:
    """Do the write and answer it, or give the answer again that was given before.

    `act` keeps the reply in the transaction of what it writes.
    """
    if write.key is None:
        return respond(answer(act(None)))
    ticket = idempotency.begin(TENANT, write.key, fingerprint=write.fingerprint)
    if isinstance(ticket, Answer):
        return respond(ticket, replayed=True)
    try:
        return respond(answer(act(Reply(ticket, answer))))
    except BaseException:
        idempotency.abandon(ticket)
        raise


def conclude_with(
    idempotency: Idempotency, act: Callable[[], R], answer: Callable[[R], Answer]
) -> Callable[[Reply[R] | None], R]:
    """For writes that cannot keep a reply in their own transaction: they are such that repeating them does no harm."""

    def acted(reply: Reply[R] | None) -> R:
        result = act()
        if reply is not None:
            idempotency.conclude(reply.ticket, answer(result))
        return result

    return acted


def answer_with(status: int, body: Value, **headers: str) -> Answer:
    """An answer with a resource; header names are written with underscores."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(status=status, headers=named, body=body.model_dump_json().encode())


def respond(answer: Answer, *, replayed: bool = False) -> Response:
    """The answer as a response."""
    headers = dict(answer.headers) | ({_REPLAYED: "true"} if replayed else {})
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=_JSON)
