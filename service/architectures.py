"""The catalogue of architectures, filtered and sorted."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from contract.architecture import SIDES, ArchitectureCard, ArchitectureList, InputShape, architectures, catalogue
from contract.failures import InvalidRequest
from contract.value import Value

_FIGURES = "parameters|macs|size_bytes|published_accuracy"


class ArchitectureFilter(Value):
    """Which architectures are asked for, and in which order."""

    library: Literal["torchvision", "timm"] | None = Field(default=None, description="Only of this library.")
    query: str = Field(default="", max_length=64, description="Only names with this in them.")
    max_parameters: int | None = Field(default=None, ge=1, description="Only with at most so many parameters.")
    max_macs: int | None = Field(
        default=None, ge=1, description="Only with at most so many multiply-accumulates for one image, where counted."
    )
    input: str | None = Field(
        default=None,
        pattern=r"^(\d{1,4}|\d{1,4}x\d{1,4}|\d{1,4}x\d{1,4}x\d{1,4})$",
        description="Figures for images of this size, such as 64, 64x64 or 1x28x28 (channels, height, width), instead "
        f"of each architecture's own: 1 or 3 channels, a side of {', '.join(map(str, SIDES))} pixels. MACs are "
        "null where a network does not take them, as most transformers take one size alone; timm's are counted for "
        "colour images only. All are those of the architecture as it was published: where replace_architecture fits "
        "the first strides to images of up to 64 pixels, it has more MACs, and its budget counts them.",
        examples=["64"],
    )
    sort: str = Field(
        default="name",
        pattern=rf"^(name|-name|-?({_FIGURES}))$",
        description=f"By name, {_FIGURES.replace('|', ', ')}; with - before it from the largest down. What has no such "
        "figure comes last.",
        examples=["macs"],
    )
    limit: int = Field(default=100, ge=1, le=1000, description="How many at most.")
    after: str = Field(
        default="", max_length=256, description="The `next_cursor` of the page before, with the same filters and order."
    )


def page_of(wanted: ArchitectureFilter) -> ArchitectureList:
    """One page of what fits; raises `InvalidRequest` for an input without figures and a cursor that is none of ours."""
    cards = _sorted(_fitting(wanted), wanted.sort)
    start = _start(cards, wanted.after)
    page = cards[start : start + wanted.limit]
    more = len(cards) > start + wanted.limit
    return ArchitectureList(data=tuple(page), has_more=more, next_cursor=_key(page[-1]) if more else None)


def _fitting(wanted: ArchitectureFilter) -> Iterator[ArchitectureCard]:
    for card in _cards(wanted.input):
        named = wanted.library in (None, card.library) and wanted.query.lower() in card.name.lower()
        if named and _within(card.parameters, wanted.max_parameters) and _within(card.macs, wanted.max_macs):
            yield card


def _within(figure: int | None, limit: int | None) -> bool:
    return limit is None or (figure is not None and figure <= limit)


def _cards(given: str | None) -> Iterator[ArchitectureCard]:
    if given is None:
        yield from architectures().values()
        return
    shape = _shape(given)
    yield from (card for entry in catalogue() if (card := entry.card_for(shape)) is not None)


def _shape(given: str) -> InputShape:
    match [int(part) for part in given.split("x")]:
        case [side]:
            return (3, side, side)
        case [height, width]:
            return (3, height, width)
        case [channels, height, width]:
            return (channels, height, width)
        case _:
            raise InvalidRequest(f"{given} is no size of an image.", pointer="/input")


def _sorted(cards: Iterator[ArchitectureCard], order: str) -> list[ArchitectureCard]:
    by_name = sorted(cards, key=_key, reverse=order == "-name")
    if order.endswith("name"):
        return by_name
    figure, sign = order.removeprefix("-"), -1 if order.startswith("-") else 1
    return sorted(by_name, key=lambda card: _rank(getattr(card, figure), sign))


def _rank(figure: float | None, sign: int) -> tuple[bool, float]:
    return (figure is None, 0.0 if figure is None else sign * figure)


def _start(cards: list[ArchitectureCard], after: str) -> int:
    if not after:
        return 0
    keys = [_key(card) for card in cards]
    if after not in keys:
        raise InvalidRequest("The cursor is none that this service gave for these filters.", pointer="/after")
    return keys.index(after) + 1


def _key(card: ArchitectureCard) -> str:
    return f"{card.name}/{card.library}"
