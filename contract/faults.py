"""What pydantic says of a body, with JSON Pointers into what was sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from contract.failures import Fault


def faults_of(errors: Sequence[Mapping[str, Any]], *, body: Any, code: str) -> tuple[Fault, ...]:
    """One fault for each place; `body` is what was validated.

    Pydantic's locations name members of unions too, which the body does not have: these are left out.
    """
    found: dict[str, Fault] = {}
    for error in errors:
        pointer = pointer_to(error, body)
        found.setdefault(pointer, Fault(pointer=pointer, code=code, detail=sentence(error)))
    return tuple(found.values())


def pointer_to(error: Mapping[str, Any], body: Any) -> str:
    """A JSON Pointer (RFC 6901) to where the error is."""
    location = error["loc"]
    parts: list[str] = []
    here = body
    for part in location:
        if (isinstance(here, Mapping) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]
        elif not (part == location[-1] and error["type"] in ("missing", "extra_forbidden")) and body is not None:
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def sentence(error: Mapping[str, Any]) -> str:
    """What pydantic has to say, as a sentence that can be sent."""
    message = str(error["msg"]).removeprefix("Value error, ")
    # A lone surrogate of the client's cannot be sent back.
    message = message.encode("utf-8", "replace").decode()
    return message[:1].upper() + message[1:] + ("" if message.endswith(".") else ".")
