"""Which failures a route answers, for the API's description."""

from typing import Any

from contract.failures import Failure, Problem
from service.errors import PROBLEM

Responses = dict[int | str, dict[str, Any]]


def problems(*kinds: type[Failure], success: dict[str, Any] | None = None) -> Responses:
    """The answers for these failures, by status, and that of a success where it is not a resource."""
    by_status: dict[int | str, list[type[Failure]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    good: Responses = {} if success is None else {200: success}
    return good | {
        status: {
            "description": " ".join(f"`{kind.code}`: {kind.title()}" for kind in alike),
            "content": {PROBLEM: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
        }
        for status, alike in by_status.items()
    }


def file_response(description: str, *media_types: str) -> dict[str, Any]:
    """A file as an answer."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": dict.fromkeys(media_types, binary)}
