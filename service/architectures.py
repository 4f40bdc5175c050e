"""The catalogue of architectures, filtered and sorted."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from contract.architecture import ArchitectureCard, ArchitectureList, Stem, catalogue
from contract.cost import CHANNELS, CLASSES, InputShape
from contract.failures import InvalidRequest
from contract.model import MAX_CLASSES, MAX_SIDE
from contract.value import Value

Order = Literal[
    "name", "-name", "parameters", "-parameters", "macs", "-macs", "size_bytes", "-size_bytes",
    "published_accuracy", "-published_accuracy",
]  # fmt: skip


class ArchitectureFilter(Value):
    """Which architectures are asked for, for what use, and in which order."""

    library: Literal["torchvision", "timm"] | None = Field(default=None, description="Only of this library.")
    query: str = Field(default="", max_length=64, description="Only names with this in them.")
    max_parameters: int | None = Field(default=None, ge=1, description="Only with at most so many parameters.")
    max_macs: int | None = Field(
        default=None, ge=1, description="Only with at most so many multiply-accumulates for one image, where counted."
    )
    input: str | None = Field(
        default=None,
        pattern=r"^(\d{1,4}|\d{1,4}x\d{1,4}|\d{1,4}x\d{1,4}x\d{1,4})$",
        description="Figures for images of this size, such as 64, 64x48 or 1x28x28 (channels, height, width), instead "
        f"of each architecture's own: 1 or 3 channels, at most {MAX_SIDE} pixels a side. Where a network does not take "
        "them, as most transformers take one size alone, `macs` is null and `macs_unknown` says so.",
        examples=["64"],
    )
    num_classes: int = Field(
        default=CLASSES, ge=1, le=MAX_CLASSES, description="Figures with a head for so many classes."
    )
    stem: Stem = Field(
        default="auto",
        description="auto: MACs of the network that `replace_architecture` builds, of torchvision's with the first "
        "strides fitted to images of at most 64 pixels. keep: of the network as the library builds it. Each card says "
        "which it tells; of timm's these alone are counted.",
    )
    sort: Order = Field(
        default="name",
        description="By name or a figure; with - before it from the largest down. What has no such figure comes last.",
        examples=["macs"],
    )
    limit: int = Field(default=100, ge=1, le=1000, description="How many at most.")
    after: str = Field(
        default="", max_length=256, description="The `next_cursor` of the page before, with the same filters and order."
    )


def page_of(wanted: ArchitectureFilter) -> ArchitectureList:
    """One page of what fits; raises `InvalidRequest` for an input that is no image and a cursor that is not ours."""
    cards = _sorted(_fitting(wanted), wanted.sort)
    start = _start(cards, wanted.after)
    page = cards[start : start + wanted.limit]
    more = len(cards) > start + wanted.limit
    return ArchitectureList(data=tuple(page), has_more=more, next_cursor=_key(page[-1]) if more else None)


def _fitting(wanted: ArchitectureFilter) -> Iterator[ArchitectureCard]:
    for card in _cards(wanted):
        if _within(card.parameters, wanted.max_parameters) and _within(card.macs, wanted.max_macs):
            yield card


def _within(figure: int | None, limit: int | None) -> bool:
    return limit is None or (figure is not None and figure <= limit)


def _cards(wanted: ArchitectureFilter) -> Iterator[ArchitectureCard]:
    shape = None if wanted.input is None else _shape(wanted.input)
    for entry in catalogue():
        if wanted.library in (None, entry.library) and wanted.query.lower() in entry.name.lower():
            yield entry.card(shape, num_classes=wanted.num_classes, stem=wanted.stem)


def _shape(given: str) -> InputShape:
    parts = [int(part) for part in given.split("x")]
    height, width = parts[-2:] if len(parts) > 1 else parts * 2
    channels = parts[0] if len(parts) == 3 else CHANNELS
    if channels not in (1, 3) or not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise InvalidRequest(
            f"There are no images of {channels}x{height}x{width} (channels, height, width); there are those of 1 and 3 "
            f"channels and of 1 to {MAX_SIDE} pixels a side.",
            pointer="/query/input",
        )
    return channels, height, width


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
        raise InvalidRequest("The cursor is none that this service gave for these filters.", pointer="/query/after")
    return keys.index(after) + 1


def _key(card: ArchitectureCard) -> str:
    return f"{card.name}/{card.library}"
