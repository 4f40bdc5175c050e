"""Every failure becomes `application/problem+json` (RFC 9457), here and nowhere else."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from contract.failures import (
    Failure,
    InternalError,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    RequestRefused,
    UnsupportedMediaType,
)
from contract.faults import faults_of
from service.bodies import BodyRefused

log = logging.getLogger("modelpress.service")

PROBLEM = "application/problem+json"

_KINDS: dict[int, type[RequestRefused]] = {
    400: MalformedRequest,
    404: NotFound,
    405: MethodNotAllowed,
    415: UnsupportedMediaType,
}


#: Fields that a status asks for: how to log in; and nobody waits for the rest of a body that comes too slowly.
_FIELDS: dict[int, dict[str, str]] = {401: {"WWW-Authenticate": "Bearer"}, 408: {"Connection": "close"}}


def refuse(scope: Scope, failure: Failure, *, headers: Mapping[str, str] | None = None) -> Response:
    """The failure as the client reads it."""
    request_id = scope.get("request_id")
    problem = failure.problem(instance=scope["path"], request_id=request_id)
    fields = {"Cache-Control": "no-store", **_FIELDS.get(failure.status, {}), **(headers or {})}
    if failure.retry_after is not None:
        fields["Retry-After"] = str(failure.retry_after)
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status_code=failure.status, media_type=PROBLEM, headers=fields)


def _of_failure(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, Failure)
    return refuse(request.scope, failure)


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, BodyRefused):
        return refuse(request.scope, error.failure)
    kind = _KINDS.get(error.status_code, MalformedRequest)
    return refuse(request.scope, kind(), headers=error.headers)


def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return refuse(request.scope, MalformedRequest("The body is no JSON that can be read."))
    faults = faults_of([_in_body(one) for one in error.errors()], body=error.body, code=InvalidRequest.code)
    return refuse(request.scope, InvalidRequest(faults[0].detail if faults else None, errors=faults))


def _in_body(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same error, located in the body that was sent, and not in the request."""
    location = error["loc"]
    return {**error, "loc": location[1:]} if location[:1] == ("body",) else error


def _of_disconnect(request: Request, error: Exception) -> Response:
    del error
    return refuse(request.scope, MalformedRequest("The client went away."))


def _of_mistake(request: Request, error: Exception) -> Response:
    request_id = request.scope.get("request_id", "")
    log.error("request %s failed", request_id, exc_info=error)
    # This answer is given outside of everything that adds the id to answers.
    return refuse(request.scope, InternalError(), headers={"X-Request-Id": request_id})


def install(app: FastAPI) -> None:
    """Let the application answer every failure this way."""
    app.add_exception_handler(Failure, _of_failure)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(ClientDisconnect, _of_disconnect)
    app.add_exception_handler(Exception, _of_mistake)
