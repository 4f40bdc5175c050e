"""The architectures that can be named, from the generated catalogue."""

import json
from functools import cache
from importlib.resources import files
from typing import Literal

from contract.cost import CHANNELS, CLASSES, FittedMacs, InputShape, Macs, Parameters, Sizes, TensorsFile
from contract.failures import InvalidRequest
from contract.model import LUMA, Architecture, Channels, Preprocessing, PreprocessingChoice, channel_count
from contract.value import Value

#: Whether the first strides are fitted to small images.
Stem = Literal["auto", "keep"]


class ArchitectureCard(Value):
    """One architecture that a library builds by name, for images of one shape and a number of classes."""

    library: Literal["torchvision", "timm"]
    name: str
    #: Options of the constructor that matter to a client, with the values that the figures are for.
    options: dict[str, bool | int | float | str | None]
    #: What the library's own weights document, or the library's default.
    preprocessing: Preprocessing
    #: Channels, height and width of the image that the figures are for.
    input: InputShape
    #: Whether the multiply-accumulates are those of the network whose first strides are fitted to small images, as
    #: `replace_architecture` builds it (auto), or of the one that the library builds (keep); the same for large ones.
    stem: Stem
    parameters: int
    #: Of a safetensors file with all weights and statistics in float32: computed from their names and shapes; of timm's
    #: to a thousandth where channels or classes are not those of the library.
    size_bytes: int
    #: Multiply-accumulates for one image; null where the network does not take it, or they cannot be counted.
    macs: int | None
    #: Why `macs` is null, as a sentence.
    macs_unknown: str | None = None
    #: Top-1 on ImageNet (0 to 1) that torchvision publishes for its default weights; timm brings no such figure.
    published_accuracy: float | None


class ArchitectureList(Value):
    """One page of architectures."""

    data: tuple[ArchitectureCard, ...]
    has_more: bool = False
    next_cursor: str | None = None


class ArchitectureEntry(Value):
    """One architecture as the catalogue keeps it."""

    library: Literal["torchvision", "timm"]
    name: str
    preprocessing: Preprocessing
    published_accuracy: float | None
    parameters: Parameters
    #: Bytes of the file for colour images and 1000 classes.
    size_bytes: int
    #: What the file's length with other channels and classes follows from; kept for torchvision's only.
    file: TensorsFile | None
    #: Null where no image is known that it takes, or its operations cannot be counted.
    sizes: Sizes | None
    macs: Macs | None
    #: The shorter side of images from which on `macs` holds; null where it does for `preprocessing.size` alone.
    counted_since: int | None
    #: With fitted strides, for small images in the order of their size; null where that was not looked into.
    fitted: tuple[FittedMacs, ...] | None

    def card(
        self, shape: InputShape | None = None, *, num_classes: int = CLASSES, stem: Stem = "auto"
    ) -> ArchitectureCard:
        """With the figures for images of this shape, or else for colour images of the default size."""
        shape = shape or (CHANNELS, *self.preprocessing.size)
        unknown = self._macs_unknown(shape)
        return ArchitectureCard(
            library=self.library,
            name=self.name,
            options={"num_classes": num_classes},
            preprocessing=self.preprocessing,
            input=shape,
            stem="keep" if self.fitted is None else stem,
            parameters=self.parameters.at(shape[0], num_classes),
            size_bytes=self._size_bytes(shape[0], num_classes),
            macs=None if unknown or self.macs is None else self._macs(self.macs, shape, stem).at(shape, num_classes),
            macs_unknown=unknown,
            published_accuracy=self.published_accuracy,
        )

    def _macs_unknown(self, shape: InputShape) -> str | None:
        _, height, width = shape
        if self.sizes is None or self.macs is None:
            return "Its operations cannot be counted."
        if refusal := self.sizes.refusal(height, width):
            return refusal
        if (height, width) == self.preprocessing.size:
            return None
        if self.counted_since is None:
            return f"It is counted for images of {'x'.join(map(str, self.preprocessing.size))} alone."
        if min(height, width) < self.counted_since:
            return f"It is counted for images of {self.counted_since} pixels a side and more."
        return None

    def _macs(self, published: Macs, shape: InputShape, stem: Stem) -> Macs:
        small = (one.macs for one in self.fitted or () if stem == "auto" and min(shape[1:]) <= one.up_to)
        return next(small, published)

    def _size_bytes(self, channels: int, num_classes: int) -> int:
        if self.file is not None:
            return self.file.at(channels, num_classes)
        more = self.parameters.at(channels, num_classes) - self.parameters.at(CHANNELS, CLASSES)
        return self.size_bytes + 4 * more


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


def _in_channels(documented: tuple[float, ...], channels: Channels) -> tuple[float, ...]:
    if channels != "gray" or len(documented) == 1:
        return documented
    return (round(sum(part * value for part, value in zip(LUMA, documented, strict=True)), 4),)


def _for_each(values: tuple[float, ...], channels: Channels, name: str, pointer: str) -> tuple[float, ...]:
    count = channel_count(channels)
    if len(values) not in (1, count):
        raise InvalidRequest(
            f"{name} has {len(values)} numbers; for {channels} images give {'one' if count == 1 else 'one or three'}.",
            pointer=f"{pointer}/{name}",
        )
    return values if len(values) == count else values * count
