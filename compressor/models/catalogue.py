"""Every architecture that can be named; `python -m compressor.models.catalogue` writes contract/architectures.json."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from compressor.measure.counting import count_macs, count_parameters
from compressor.models.architectures import build, names
from compressor.models.torchvision_ops import torchvision
from compressor.pruning.time_limit import TimeLimitExceeded, time_limit
from contract.architecture import ArchitectureCard
from contract.failures import InvalidArchitecture
from contract.model import Architecture, Preprocessing

FILE = Path("contract") / "architectures.json"

#: Building and counting one architecture may take so long, in seconds.
_SECONDS = 60.0
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cards() -> Iterator[ArchitectureCard]:
    """A card for each architecture that can be built and answers with logits for one image."""
    for library in ("torchvision", "timm"):
        for name in sorted(names(library)):
            card = _card(library, name)
            if card is not None:
                yield card


def _card(library: Any, name: str) -> ArchitectureCard | None:
    architecture = Architecture(library=library, name=name)
    try:
        with time_limit(_SECONDS):
            module = _hollow(architecture)
            preprocessing = _fitting(_documented(library, name), module)
            return ArchitectureCard(
                library=library,
                name=name,
                options={"num_classes": 1000},
                preprocessing=preprocessing,
                parameters=count_parameters(module),
                macs=_macs(module, preprocessing),
            )
    except (InvalidArchitecture, TimeLimitExceeded, RuntimeError, ValueError, AssertionError) as error:
        sys.stderr.write(f"{library}.{name} is left out: {str(error)[:200]}\n")
        return None


def _fitting(documented: Preprocessing, module: nn.Module) -> Preprocessing:
    """With the size that the architecture takes, where that is not the one of its best weights."""
    side = getattr(module, "image_size", documented.size[0])
    return documented if side == documented.size[0] else documented.model_copy(update={"size": (side, side)})


def _hollow(architecture: Architecture) -> nn.Module:
    try:
        return build(architecture, device="meta")
    except InvalidArchitecture:
        return build(architecture)


def _macs(module: nn.Module, preprocessing: Preprocessing) -> int | None:
    try:
        return count_macs(module, (3, *preprocessing.size)).total
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return None


def _documented(library: str, name: str) -> Preprocessing:
    return _of_torchvision(name) if library == "torchvision" else _of_timm(name)


def _of_torchvision(name: str) -> Preprocessing:
    """What the default weights were evaluated with; their resize over their crop is the crop's fraction."""
    transforms = torchvision().models.get_model_weights(name).DEFAULT.transforms()
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    return Preprocessing(
        size=(size, size), mean=tuple(transforms.mean), std=tuple(transforms.std), crop=round(size / resize, 4)
    )


def _of_timm(name: str) -> Preprocessing:
    from timm.models import get_pretrained_cfg, is_model_pretrained

    config = get_pretrained_cfg(name) if is_model_pretrained(name) else None
    if config is None:
        return Preprocessing(size=(224, 224), mean=_IMAGENET_MEAN, std=_IMAGENET_STD, crop=0.875)
    _, height, width = config.input_size
    return Preprocessing(
        size=(height, width),
        mean=tuple(config.mean),
        std=tuple(config.std),
        crop=min(1.0, round(config.crop_pct or 1.0, 4)),
    )


def main() -> None:
    """Write the catalogue, an architecture to a line."""
    lines = [json.dumps(card.model_dump(mode="json"), separators=(",", ":")) for card in cards()]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
