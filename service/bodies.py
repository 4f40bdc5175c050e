"""Bodies on their way in: never larger than their route takes, never slower than a client that means it."""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.failures import BodyTooLarge, MalformedRequest, RequestRefused, RequestTimeout

#: What a body may have where its route does not allow more, in bytes.
MAX_BODY = 1024**2

#: So many bytes must come before the patience is over, each time anew; the end may be shorter.
_LEAST = 64 * 1024
_SCOPE_KEY = "modelpress.body"


class Bodies:
    """Bounds the body of every request."""

    def __init__(self, app: ASGIApp, *, idle_seconds: float) -> None:
        self._app, self._idle_seconds = app, idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            body = Body(receive, Headers(scope=scope), idle_seconds=self._idle_seconds)
            scope[_SCOPE_KEY], receive = body, body.receive
        await self._app(scope, receive, send)


class Body:
    """The body of one request.

    Its refusals are raised as HTTP exceptions, which the framework lets through wherever it reads a body itself.
    """

    def __init__(self, receive: Receive, headers: Headers, *, idle_seconds: float) -> None:
        self._receive, self._headers = receive, headers
        self._idle_seconds = self._patience = idle_seconds
        self._size = self._since = 0
        self._ended = False
        self._most = MAX_BODY

    def allow(self, most: int) -> None:
        """Take so many bytes; raises where more are announced."""
        self._most = most
        announced = announced_length(self._headers) or 0
        if announced > most:
            raise BodyRefused(BodyTooLarge(f"The body has {announced} bytes; at most {most} are taken."))

    async def receive(self) -> Message:
        """The next part of it; after the last one, whatever else there is to hear."""
        if self._ended:
            return await self._receive()
        self.allow(self._most)
        message = await self._wait()
        self._count(len(message.get("body", b"")))
        self._ended = not message.get("more_body", False)
        return message

    async def _wait(self) -> Message:
        # Only waiting for the client counts: while we write, it may have to wait for us.
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(self._patience):
                return await self._receive()
        except TimeoutError as error:
            raise BodyRefused(RequestTimeout(f"Too little came in {self._idle_seconds:g} s.")) from error
        finally:
            self._patience -= clock() - begun

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._most:
            raise BodyRefused(BodyTooLarge(f"The body has more than the {self._most} bytes that are taken."))
        self._since += size
        if self._since >= _LEAST:
            self._since, self._patience = 0, self._idle_seconds


class BodyRefused(HTTPException):
    """The body is not taken, for the reason that `failure` names."""

    def __init__(self, failure: RequestRefused) -> None:
        super().__init__(failure.status)
        self.failure = failure


def allow(request: Request, most: int) -> None:
    """Let the body of this request have so many bytes; raises `BodyRefused` where more are announced."""
    body: Body = request.scope[_SCOPE_KEY]
    body.allow(most)


def announced_length(headers: Headers) -> int | None:
    """The `Content-Length`; raises `MalformedRequest` where it is no length."""
    value = headers.get("content-length")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise MalformedRequest("Content-Length is no length.")
    return int(value)
