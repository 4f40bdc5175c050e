"""What can be asked for: methods, architectures, capabilities, error codes."""

from functools import cache
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from contract.architecture import ArchitectureCard, ArchitectureList, architectures
from contract.failures import ErrorCatalogue, ErrorEntry, NotFound, every_failure
from contract.methods import METHODS
from contract.methods.card import MethodCard, MethodList, card_of
from contract.model import ModelFormat
from contract.worker import Capabilities, ServiceLimits
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


@router.get("/architectures")
def list_architectures(
    library: Annotated[Literal["torchvision", "timm"] | None, Query(description="Only of this library.")] = None,
    query: Annotated[str, Query(max_length=64, description="Only names with this in them.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=256, description="The `next_cursor` of the page before.")] = "",
) -> ArchitectureList:
    """Everything that can be named as an architecture, by name."""
    fitting = [card for card in _sorted() if _key(card) > after and query.lower() in card.name.lower()]
    fitting = [card for card in fitting if library in (None, card.library)]
    page = fitting[:limit]
    more = len(fitting) > limit
    return ArchitectureList(data=tuple(page), has_more=more, next_cursor=_key(page[-1]) if more else None)


@cache
def _sorted() -> tuple[ArchitectureCard, ...]:
    return tuple(sorted(architectures().values(), key=_key))


def _key(card: ArchitectureCard) -> str:
    return f"{card.name}/{card.library}"


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
