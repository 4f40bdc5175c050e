"""The API's description (OpenAPI 3.1)."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from contract.failures import Problem
from contract.spec import InlineJobSpec, JobSpec
from service.errors import PROBLEM

_TEMPLATE = "#/components/schemas/{model}"
_ANYWHERE: dict[str, str] = {
    "400": "The request could not be read.",
    "401": "An API key is wanted.",
    "422": "The request was understood and is wrong.",
    "503": "The service cannot answer this now; try again after `Retry-After`.",
}


def install(app: FastAPI) -> None:
    """Let the application describe itself this way."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = document["components"]["schemas"]
    for kind in (Problem, JobSpec, InlineJobSpec):
        own = TypeAdapter(kind).json_schema(ref_template=_TEMPLATE)
        schemas |= own.pop("$defs", {})
        schemas[kind.__name__] = own
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            _add_problems(operation["responses"])
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    # Without keys in the settings the service is open.
    document["security"] = [{"key": []}, {}]
    return document


def _add_problems(responses: dict[str, Any]) -> None:
    content = {PROBLEM: {"schema": {"$ref": _TEMPLATE.format(model=Problem.__name__)}}}
    for status, description in _ANYWHERE.items():
        known = responses.get(status)
        if known is None or "application/json" in known.get("content", {}):
            responses[status] = {"description": description, "content": content}
