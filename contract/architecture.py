"""The architectures that can be named, from the generated catalogue."""

import json
from functools import cache
from importlib.resources import files
from typing import Literal

from contract.model import Architecture, Preprocessing, PreprocessingChoice
from contract.value import Value


class ArchitectureCard(Value):
    """One architecture that a library builds by name."""

    library: Literal["torchvision", "timm"]
    name: str
    #: Options of the constructor that matter to a client, with their defaults.
    options: dict[str, bool | int | float | str | None]
    #: What the library's own weights document, or the library's default.
    preprocessing: Preprocessing
    parameters: int
    #: For one image of the default size; null where it cannot be counted.
    macs: int | None


class ArchitectureList(Value):
    """Architectures, by name."""

    data: tuple[ArchitectureCard, ...]
    has_more: bool = False
    next_cursor: str | None = None


@cache
def architectures() -> dict[tuple[str, str], ArchitectureCard]:
    """Every architecture by library and name."""
    raw = json.loads(files("contract").joinpath("architectures.json").read_text())
    cards = (ArchitectureCard.model_validate(entry) for entry in raw)
    return {(card.library, card.name): card for card in cards}


def resolve_preprocessing(architecture: Architecture, choice: PreprocessingChoice) -> Preprocessing:
    """The client's choice over what the architecture documents."""
    default = architectures()[architecture.library, architecture.name].preprocessing
    chosen = {k: v for k, v in choice.model_dump().items() if v is not None}
    return Preprocessing.model_validate(default.model_dump() | chosen)
