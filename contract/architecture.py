"""The architectures that can be named, from the generated catalogue."""

import json
from functools import cache
from importlib.resources import files
from typing import Literal

from contract.failures import InvalidRequest
from contract.model import LUMA, Architecture, Preprocessing, PreprocessingChoice
from contract.value import Value

#: Sides of the square inputs for which the catalogue keeps multiply-accumulates, in pixels.
SIDES = (28, 32, 64, 96, 128, 192, 224)

#: Channels, height and width.
InputShape = tuple[int, int, int]


class ArchitectureCard(Value):
    """One architecture that a library builds by name, for images of one shape."""

    library: Literal["torchvision", "timm"]
    name: str
    #: Options of the constructor that matter to a client, with their defaults.
    options: dict[str, bool | int | float | str | None]
    #: What the library's own weights document, or the library's default.
    preprocessing: Preprocessing
    #: Channels, height and width of the image that the figures are for.
    input: InputShape
    parameters: int
    #: Of a safetensors file with all weights and statistics in float32: computed from their names and shapes.
    size_bytes: int
    #: Multiply-accumulates for one image; null where the network does not take it, or they cannot be counted.
    macs: int | None
    #: Top-1 on ImageNet (0 to 1) that torchvision publishes for its default weights; timm brings no such figure.
    published_accuracy: float | None


class ArchitectureList(Value):
    """One page of architectures."""

    data: tuple[ArchitectureCard, ...]
    has_more: bool = False
    next_cursor: str | None = None


class Cost(Value):
    """What an architecture costs for images of so many channels."""

    parameters: int
    size_bytes: int
    #: For images of each of `SIDES`; null where the network does not take them, as transformers of one size.
    macs: tuple[int | None, ...]

    def macs_at(self, side: int) -> int | None:
        """For square images of one of `SIDES`; null where the network does not take them."""
        return self.macs[SIDES.index(side)]


class ArchitectureEntry(Value):
    """One architecture as the catalogue keeps it."""

    library: Literal["torchvision", "timm"]
    name: str
    options: dict[str, bool | int | float | str | None]
    preprocessing: Preprocessing
    published_accuracy: float | None
    #: By how much the parameters grow with each class more; counted for torchvision's only.
    parameters_per_class: int | None
    #: For a colour image of the default size.
    macs: int | None
    rgb: Cost
    #: Null where only the network for colour images was counted.
    gray: Cost | None

    def card(self) -> ArchitectureCard:
        """With the figures for a colour image of the default size."""
        return self._card((3, *self.preprocessing.size), self.rgb, self.macs)

    def card_for(self, shape: InputShape) -> ArchitectureCard | None:
        """With the figures for images of this shape; None where there is no such network.

        Raises `InvalidRequest` for a shape that the catalogue has no figures for.
        """
        channels, height, width = shape
        if height != width or height not in SIDES or channels not in (1, 3):
            raise InvalidRequest(
                f"There are no figures for images of {channels}x{height}x{width} (channels, height, width); there are "
                f"for 1 and 3 channels and the square sizes {', '.join(map(str, SIDES))}.",
                pointer="/input",
            )
        if shape == (3, *self.preprocessing.size):
            return self.card()
        cost = self.rgb if channels == 3 else self.gray
        return None if cost is None else self._card(shape, cost, cost.macs_at(height))

    def _card(self, shape: InputShape, cost: Cost, macs: int | None) -> ArchitectureCard:
        return ArchitectureCard(
            library=self.library, name=self.name, options=self.options, preprocessing=self.preprocessing,
            input=shape, parameters=cost.parameters, size_bytes=cost.size_bytes, macs=macs,
            published_accuracy=self.published_accuracy,
        )  # fmt: skip


@cache
def catalogue() -> tuple[ArchitectureEntry, ...]:
    """Every architecture, in the order of the file."""
    raw = json.loads(files("contract").joinpath("architectures.json").read_text())
    return tuple(ArchitectureEntry.model_validate(entry) for entry in raw)


@cache
def architectures() -> dict[tuple[str, str], ArchitectureCard]:
    """Every architecture by library and name, with its figures for colour images of the default size."""
    return {(entry.library, entry.name): entry.card() for entry in catalogue()}


def resolve_preprocessing(
    architecture: Architecture, choice: PreprocessingChoice, *, pointer: str = "/preprocessing"
) -> Preprocessing:
    """The client's choice over what the architecture documents.

    For gray images what it documents for colours is taken at the luma that colours become; one number stands for all
    channels. Raises `InvalidRequest` where there are neither one nor as many as channels.
    """
    default = architectures()[architecture.library, architecture.name].preprocessing
    chosen = {k: v for k, v in choice.model_dump().items() if v is not None}
    found = default.model_dump() | chosen
    for name in ("mean", "std"):
        values = found[name] if name in chosen else _in_channels(found[name], found["channels"])
        found[name] = _for_each(values, found["channels"], name, pointer)
    return Preprocessing.model_validate(found)


def _in_channels(documented: tuple[float, ...], channels: str) -> tuple[float, ...]:
    if channels != "gray" or len(documented) == 1:
        return documented
    return (round(sum(part * value for part, value in zip(LUMA, documented, strict=True)), 4),)


def _for_each(values: tuple[float, ...], channels: str, name: str, pointer: str) -> tuple[float, ...]:
    count = 1 if channels == "gray" else 3
    if len(values) not in (1, count):
        raise InvalidRequest(
            f"{name} has {len(values)} numbers; for {channels} images give {'one' if count == 1 else 'one or three'}.",
            pointer=f"{pointer}/{name}",
        )
    return values if len(values) == count else values * count
