"""Every failure becomes `application/problem+json` (RFC 9457), here and nowhere else."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contract.failures import (
    BodyTooLarge,
    Failure,
    InternalError,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    RequestRefused,
    UnsupportedMediaType,
)
from service.faults import faults_of

log = logging.getLogger("modelpress.service")

PROBLEM = "application/problem+json"

_KINDS: dict[int, type[RequestRefused]] = {
    400: MalformedRequest,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}


def problem_response(failure: Failure, *, path: str, request_id: str | None) -> Response:
    """The failure as the client reads it."""
    problem = failure.problem(instance=path, request_id=request_id)
    headers = {"Cache-Control": "no-store"}
    if failure.retry_after is not None:
        headers["Retry-After"] = str(failure.retry_after)
    if failure.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status_code=failure.status, media_type=PROBLEM, headers=headers)


def _answer(request: Request, failure: Failure, *, headers: Mapping[str, str] | None = None) -> Response:
    response = problem_response(failure, path=request.scope["path"], request_id=request.scope.get("request_id"))
    response.headers.update(headers or {})
    return response


def _of_failure(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, Failure)
    return _answer(request, failure)


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, MalformedRequest)
    return _answer(request, kind(), headers=error.headers)


def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return _answer(request, MalformedRequest("The body is no JSON that can be read."))
    faults = faults_of(error.errors(), body=error.body, code=InvalidRequest.code)
    return _answer(request, InvalidRequest(faults[0].detail if faults else None, errors=faults))


def _of_disconnect(request: Request, error: Exception) -> Response:
    del error
    return _answer(request, MalformedRequest("The client went away."))


def _of_mistake(request: Request, error: Exception) -> Response:
    log.error("request %s failed", request.scope.get("request_id"), exc_info=error)
    return _answer(request, InternalError())


def install(app: FastAPI) -> None:
    """Let the application answer every failure this way."""
    app.add_exception_handler(Failure, _of_failure)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(ClientDisconnect, _of_disconnect)
    app.add_exception_handler(Exception, _of_mistake)
