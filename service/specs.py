"""Job specs, from what was sent to what can be done: every fault with a pointer, before anything is stored."""

import json
import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from contract.architecture import architectures
from contract.composition import faults, is_untrained, roles_of
from contract.failures import (
    DeviceUnavailable,
    Failure,
    Fault,
    FormatUnavailable,
    InvalidParams,
    InvalidRequest,
    InvalidSpec,
    MalformedRequest,
    UnknownArchitecture,
    UnknownMethod,
    failure_named,
)
from contract.faults import pointer_to, sentence
from contract.methods import METHODS
from contract.methods.distill import Distill
from contract.methods.replace import ReplaceArchitecture
from contract.model import Architecture
from contract.spec import JobOptions, JobSpec
from service.workforce import Workforce

S = TypeVar("S", bound=JobOptions)

#: A spec nested deeper than this is none.
_MAX_DEPTH = 64
#: In which pydantic puts the name of the member that tells the kinds of an object apart.
_QUOTE = "'"


def read_json(body: bytes) -> Any:
    """The JSON of a body; raises `MalformedRequest`, for NaN and for two members of one name too."""
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"The body is no JSON that can be read: {str(error)[:200]}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:32]} is too large a number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two members of one name")
    return found


def parse(kind: type[S], raw: Any) -> S:
    """The spec with every default resolved; raises the failure of its first fault, with all of them in `errors`."""
    if _depth(raw) > _MAX_DEPTH:
        raise MalformedRequest("The spec is nested too deeply.")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise _refusal([_fault(one, raw) for one in error.errors(include_url=False)]) from error


def _depth(raw: Any) -> int:
    """How deeply lists and objects are nested, looked at without recursion."""
    level, depth = [raw], 0
    while level:
        depth += 1
        parts = [list(p.values()) if isinstance(p, dict) else p for p in level if isinstance(p, dict | list)]
        level = [part for inner in parts for part in inner]
        if depth > _MAX_DEPTH:
            break
    return depth


def _fault(error: Any, raw: Any) -> Fault:
    pointer = pointer_to(error, raw)
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        if _is_step(error["loc"]):
            return _unknown_method(pointer, error)
        pointer += f"/{error['ctx']['discriminator'].strip(_QUOTE)}"
    code = InvalidParams.code if pointer.startswith("/steps/") else InvalidSpec.code
    return Fault(pointer=pointer, code=code, detail=sentence(error))


def _is_step(location: tuple[int | str, ...]) -> bool:
    """Whether this is a step itself, and nothing in one."""
    return len(location) == 2 and location[0] == "steps"


def _unknown_method(pointer: str, error: Any) -> Fault:
    tag = str(error.get("ctx", {}).get("tag", "")).encode("utf-8", "replace").decode()[:64]
    close = get_close_matches(tag, METHODS, n=2)
    near = f" Did you mean {' or '.join(close)}?" if close else f" There are {', '.join(METHODS)}."
    said = f"There is no method {tag}." if tag else "A step names its method."
    return Fault(pointer=f"{pointer}/method", code=UnknownMethod.code, detail=said + near)


def _refusal(found: list[Fault]) -> Failure:
    """The failure of the first fault, bearing all of them; one pointer has one fault."""
    unique = tuple({fault.pointer: fault for fault in reversed(found)}.values())[::-1]
    kind = failure_named(unique[0].code) or InvalidRequest
    return kind(unique[0].detail, errors=unique)


def check(spec: JobSpec, workforce: Workforce) -> None:
    """Raise the failure of whatever can be known to be wrong without the model itself."""
    found = [
        *_faults_of_architectures(spec),
        *_faults_of_teachers(spec),
        *faults(spec, data=roles_of(spec.data), untrained=is_untrained(spec.model)),
        *_faults_of_workforce(spec, workforce),
    ]
    if found:
        raise _refusal(found)


def _faults_of_architectures(spec: JobSpec) -> Iterator[Fault]:
    for pointer, architecture in _named(spec):
        if unknown := fault_of_architecture(architecture, pointer=pointer):
            yield unknown


def _named(spec: JobSpec) -> Iterator[tuple[str, Architecture]]:
    if not isinstance(spec.model, str):
        yield "/model/architecture", spec.model.architecture
    for index, step in enumerate(spec.steps):
        if isinstance(step, ReplaceArchitecture) and step.architecture is not None:
            yield f"/steps/{index}/architecture", step.architecture
        if isinstance(step, Distill) and isinstance(step.student, Architecture):
            yield f"/steps/{index}/student", step.student


def fault_of_architecture(architecture: Architecture, *, pointer: str) -> Fault | None:
    """What is wrong with a name, with the nearest ones that are right."""
    if (architecture.library, architecture.name) in architectures():
        return None
    known = [name for library, name in architectures() if library == architecture.library]
    close = get_close_matches(architecture.name, known, n=3)
    near = f" Did you mean {' or '.join(close)}?" if close else ""
    return Fault(
        pointer=f"{pointer}/name",
        code=UnknownArchitecture.code,
        detail=f"{architecture.library} has no architecture {architecture.name}.{near}",
    )


def _faults_of_teachers(spec: JobSpec) -> Iterator[Fault]:
    for index, step in enumerate(spec.steps):
        for place, name in step.models.items():
            if name == "uploaded":
                detail = "It comes with a multipart job, as the part `teacher` with `teacher` in the spec."
                yield Fault(pointer=f"/steps/{index}{place}", code=InvalidParams.code, detail=detail)


def _faults_of_workforce(spec: JobSpec, workforce: Workforce) -> Iterator[Fault]:
    """With no worker alive the job waits for one that can do it."""
    if not workforce.live():
        return
    if spec.device != "auto" and spec.device not in workforce.devices():
        detail = f"No worker has {spec.device}; there is {', '.join(workforce.devices())}."
        yield Fault(pointer="/device", code=DeviceUnavailable.code, detail=detail)
    for index, output in enumerate(spec.outputs):
        if output.format not in workforce.outputs():
            detail = f"No worker can write {output.format}; they write {', '.join(workforce.outputs())}."
            yield Fault(pointer=f"/outputs/{index}", code=FormatUnavailable.code, detail=detail)
        if output.options.quantizer not in workforce.quantizers():
            detail = f"No worker has {output.options.quantizer}; there is {', '.join(workforce.quantizers())}."
            yield Fault(pointer=f"/outputs/{index}/options/quantizer", code=FormatUnavailable.code, detail=detail)
