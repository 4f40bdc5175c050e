"""Every architecture that can be named; `python -m compressor.models.catalogue` writes contract/architectures.json."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from compressor.measure.counting import Macs, count_macs, count_parameters
from compressor.measure.file_size import safetensors_bytes
from compressor.models.architectures import build, names
from compressor.models.torchvision_ops import torchvision
from compressor.time_limit import TimeLimitExceeded, time_limit
from contract.architecture import SIDES, ArchitectureEntry, Cost
from contract.failures import InvalidArchitecture
from contract.model import Architecture, Preprocessing

FILE = Path("contract") / "architectures.json"

#: Building and counting one architecture may take so long, in seconds.
_SECONDS = 300.0
#: How networks refuse images of a size that they are not made for.
_REFUSALS = (
    RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError, IndexError, ZeroDivisionError,
    AttributeError,
)  # fmt: skip
#: Layers without a product that is counted. Without numbers (on the meta device) they take torch longest.
_NORMALIZING = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
#: With their published weights torchvision builds these so that they turn inputs into what TensorFlow's networks want,
#: which are those of this normalization; here they are built without that.
_FROM_TENSORFLOW = frozenset({"googlenet", "inception_v3"})
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def entries() -> Iterator[ArchitectureEntry]:
    """An entry for each architecture that can be built and answers with logits for one image."""
    for library in ("torchvision", "timm"):
        for name in sorted(names(library)):
            entry = entry_of(library, name)
            if entry is not None:
                yield entry


def entry_of(library: Any, name: str) -> ArchitectureEntry | None:
    """What the catalogue keeps of one architecture; None, said on stderr, where it cannot be built and counted."""
    architecture = Architecture(library=library, name=name)
    try:
        with time_limit(_SECONDS):
            module = _hollow(architecture)
            preprocessing = _fitting(_documented(library, name), module)
            default = _macs(module, preprocessing.size)
            multiplying = _multiplying(architecture, preprocessing.size, default) or module
            by_side = [_macs(multiplying, (side, side)) for side in SIDES]
            return ArchitectureEntry(
                library=library,
                name=name,
                options={"num_classes": 1000},
                preprocessing=preprocessing,
                published_accuracy=_accuracy_of_torchvision(name) if library == "torchvision" else None,
                parameters_per_class=_per_class(architecture, module) if library == "torchvision" else None,
                macs=None if default is None else default.total,
                rgb=_cost(module, [None if macs is None else macs.total for macs in by_side]),
                gray=_gray(architecture, module, by_side) if library == "torchvision" else None,
            )
    except (InvalidArchitecture, TimeLimitExceeded, RuntimeError, ValueError, AssertionError) as error:
        sys.stderr.write(f"{library}.{name} is left out: {str(error)[:200]}\n")
        return None


def _per_class(architecture: Architecture, module: nn.Module) -> int:
    """Parameters that one class more costs."""
    fewer = architecture.model_copy(update={"options": {"num_classes": 990}})
    return (count_parameters(module) - count_parameters(_hollow(fewer))) // 10


def _cost(module: nn.Module, macs: Sequence[int | None]) -> Cost:
    return Cost(parameters=count_parameters(module), size_bytes=safetensors_bytes(module), macs=tuple(macs))


def _gray(architecture: Architecture, colour: nn.Module, by_side: Sequence[Macs | None]) -> Cost | None:
    """What the network for one channel costs: a third of the first convolution's multiply-accumulates, and the rest.

    None where that is not all that the two networks differ in, or there is no such network.
    """
    try:
        module = _hollow(architecture, in_channels=1)
    except (InvalidArchitecture, RuntimeError, ValueError, AssertionError):
        return None
    name, first = next(((n, m) for n, m in colour.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    if first is None or count_parameters(colour) - count_parameters(module) != first.weight.numel() // 3 * 2:
        return None
    return _cost(module, [None if macs is None else macs.total - macs.by_module[name] // 3 * 2 for macs in by_side])


def _fitting(documented: Preprocessing, module: nn.Module) -> Preprocessing:
    """With the size that the architecture takes, where that is not the one of its best weights."""
    side = getattr(module, "image_size", documented.size[0])
    return documented if side == documented.size[0] else documented.model_copy(update={"size": (side, side)})


def _hollow(architecture: Architecture, *, in_channels: int = 3) -> nn.Module:
    try:
        return build(architecture, in_channels=in_channels, device="meta")
    except InvalidArchitecture:
        return build(architecture, in_channels=in_channels).to("meta")


def _multiplying(architecture: Architecture, size: tuple[int, int], macs: Macs | None) -> nn.Module | None:
    """The network without what normalizes, which is counted four times as fast; None where that counts otherwise."""
    module = _hollow(architecture)
    for name, part in list(module.named_modules()):
        if isinstance(part, _NORMALIZING):
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, nn.Identity())
    return module if _macs(module, size) == macs else None


def _macs(module: nn.Module, size: tuple[int, int]) -> Macs | None:
    try:
        return count_macs(module, (3, *size))
    except _REFUSALS:
        return None


def _documented(library: str, name: str) -> Preprocessing:
    return _of_torchvision(name) if library == "torchvision" else _of_timm(name)


def _of_torchvision(name: str) -> Preprocessing:
    """What the default weights were evaluated with; their resize over their crop is the crop's fraction."""
    transforms = torchvision().models.get_model_weights(name).DEFAULT.transforms()
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if name in _FROM_TENSORFLOW:
        mean, std = (0.5,) * 3, (0.5,) * 3
    return Preprocessing(size=(size, size), mean=mean, std=std, crop=round(size / resize, 4))


def _accuracy_of_torchvision(name: str) -> float:
    """Top-1 on ImageNet of the default weights, as their metadata tell it."""
    percent: float = torchvision().models.get_model_weights(name).DEFAULT.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return round(percent / 100, 5)


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
    lines = [json.dumps(entry.model_dump(mode="json"), separators=(",", ":")) for entry in entries()]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
