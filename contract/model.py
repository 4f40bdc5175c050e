"""A model: an architecture by name, and its weights."""

from collections import Counter
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contract.value import Instant, Links, Metadata, Sha256, Value

#: Pixels of an image's side, and classes, at most.
MAX_SIDE, MAX_CLASSES = 4096, 100_000

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]

#: What an option of an architecture's constructor may be.
Option = bool | int | float | str | None


class Architecture(Value):
    """A network that a library builds by name."""

    library: Literal["torchvision", "timm"] = "torchvision"
    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.]+$")
    #: Passed to the constructor, such as `num_classes` or `width_mult`.
    options: Annotated[dict[Annotated[str, Field(max_length=64)], Option], Field(max_length=32)] = Field(
        default_factory=dict
    )


#: What red, green and blue give to gray (ITU-R BT.601), as Pillow takes them.
LUMA = (0.299, 0.587, 0.114)


#: What images show.
Channels = Literal["rgb", "gray"]


def channel_count(channels: Channels) -> int:
    """Numbers of one pixel."""
    return 1 if channels == "gray" else 3


class Preprocessing(Value):
    """How an image becomes the network's input.

    A uint8 image is resized (bilinear) to `size` over `crop`, cut to `size` at the centre, scaled to [0, 1] and
    normalized: `(x - mean) / std`, channel by channel.
    """

    #: Height and width of the input, in pixels.
    size: tuple[Side, Side]
    mean: tuple[float, ...] = Field(min_length=1, max_length=3)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=3)
    channels: Channels = "rgb"
    #: The part of the resized image's side that the centre cut keeps; 1 keeps all.
    crop: float = Field(default=1.0, gt=0, le=1)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        height, width = self.size
        return channel_count(self.channels), height, width


class PreprocessingChoice(Value):
    """The parts of a preprocessing that a client sets; the architecture's own weights document the rest."""

    size: tuple[Side, Side] | None = None
    mean: tuple[float, ...] | None = Field(default=None, min_length=1, max_length=3)
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1, max_length=3)
    channels: Channels | None = None
    crop: float | None = Field(default=None, ge=0.1, le=1)


class ModelFormat(StrEnum):
    """The file formats in which weights are taken."""

    SAFETENSORS = "safetensors"
    #: A zip-format state_dict, as `torch.save` writes it; read with `weights_only=True`.
    PT = "pt"


class ContentState(StrEnum):
    """Whether a resource's bytes are there."""

    AWAITING_CONTENT = "awaiting_content"
    READY = "ready"


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is there twice, and images are matched to classes by name")
    return names


ClassNames = Annotated[tuple[Annotated[str, Field(max_length=256)], ...], Field(min_length=2, max_length=MAX_CLASSES)]


class ModelCreation(Value):
    """What a client says of a model before it sends the weights."""

    name: str = Field(default="", max_length=256)
    architecture: Architecture
    format: ModelFormat = ModelFormat.SAFETENSORS
    preprocessing: PreprocessingChoice = PreprocessingChoice()
    #: Names of the classes in the order of the outputs.
    classes: Annotated[ClassNames, AfterValidator(_each_once)] | None = None
    metadata: Metadata = Field(default_factory=dict)


class Model(Value):
    """A model as the service knows it."""

    id: str
    name: str
    architecture: Architecture
    format: ModelFormat
    preprocessing: Preprocessing
    classes: ClassNames | None
    metadata: Metadata
    state: ContentState
    size_bytes: int | None
    sha256: Sha256 | None
    created_at: Instant
    links: Links = Field(default_factory=dict)
