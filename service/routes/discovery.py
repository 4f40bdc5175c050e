"""What can be asked for: methods, architectures, capabilities, error codes."""

from functools import cache
from typing import Annotated

from fastapi import APIRouter, Query

from contract.architecture import ArchitectureList
from contract.failures import ErrorCatalogue, ErrorEntry, InvalidRequest, NotFound, every_failure
from contract.methods import METHODS
from contract.methods.card import MethodCard, MethodList, card_of
from contract.model import ModelFormat
from contract.worker import Capabilities, ServiceLimits
from service.architectures import ArchitectureFilter, page_of
from service.bodies import MAX_BODY
from service.house import InHouse
from service.routes.jobs import MAX_WAIT
from service.routes.responses import problems
from service.version import VERSION

router = APIRouter(prefix="/v1", tags=["discovery"])


@cache
def _cards() -> dict[str, MethodCard]:
    return {name: card_of(kind) for name, kind in METHODS.items()}


@router.get("/methods")
def list_methods() -> MethodList:
    """Everything that can be a step."""
    return MethodList(data=tuple(_cards().values()))


@router.get("/methods/{name}", responses=problems(NotFound))
def get_method(name: str) -> MethodCard:
    """One method, with the JSON Schema of its parameters."""
    if name not in _cards():
        raise NotFound(f"There is no method of this name; there are {', '.join(_cards())}.")
    return _cards()[name]


@router.get("/architectures", responses=problems(InvalidRequest))
def list_architectures(wanted: Annotated[ArchitectureFilter, Query()]) -> ArchitectureList:
    """Everything that can be named as an architecture, with what it costs as `replace_architecture` would build it."""
    return page_of(wanted)


@router.get("/capabilities")
def get_capabilities(house: InHouse) -> Capabilities:
    """Who is there to work, with what, and what can be written and run."""
    workforce = house.workforce
    return Capabilities(
        version=VERSION,
        workers=workforce.live(),
        devices=workforce.devices(),
        runtimes=workforce.runtimes(),
        model_formats=tuple(ModelFormat),
        outputs=workforce.outputs(),
        quantizers=workforce.quantizers(),
        limits=ServiceLimits(
            max_upload_bytes=house.settings.max_upload_bytes,
            max_body_bytes=MAX_BODY,
            max_steps=32,
            max_wait_seconds=MAX_WAIT,
        ),
    )


@router.get("/errors")
def list_errors() -> ErrorCatalogue:
    """Every code that an error can have."""
    return ErrorCatalogue(data=tuple(ErrorEntry.of(kind) for kind in every_failure()))


@router.get("/errors/{code}", responses=problems(NotFound))
def get_error(code: str) -> ErrorEntry:
    """What a code means: where `type` of a problem leads."""
    found = next((kind for kind in every_failure() if kind.code == code), None)
    if found is None:
        raise NotFound("There is no error of this code.")
    return ErrorEntry.of(found)
