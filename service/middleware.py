"""Around every request: its id, its key, its line in the log and in the metrics."""

import hmac
import logging
import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.failures import Unauthorized
from service.errors import refuse
from service.metrics import Metrics

log = logging.getLogger("modelpress.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class Envelope:
    """Gives every request an id, answers with it, logs and counts it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        scope["request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = scope["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, so that ids do not make a series each.
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.answered(method=scope["method"], route=route, status=status, seconds=seconds)
        log.info(
            "method=%s route=%s status=%d ms=%.1f request_id=%s",
            scope["method"], route, status, seconds * 1000, scope["request_id"],
        )  # fmt: skip


class Keys:
    """Lets in whoever brings one of the keys."""

    def __init__(self, app: ASGIApp, *, keys: frozenset[str]) -> None:
        self._app, self._keys = app, tuple(key.encode() for key in sorted(keys))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS or self._admits(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        await refuse(scope, Unauthorized())(scope, receive, send)

    def _admits(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Every key is compared, so that the time tells nothing of which one was near.
        matches = [hmac.compare_digest(given.strip().encode("latin-1", "replace"), key) for key in self._keys]
        return scheme.lower() == "bearer" and any(matches)
