"""Every architecture that can be named; `python -m compressor.models.catalogue` writes contract/architectures.json."""

import copy
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import count, takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torch import nn

from compressor.measure.counting import count_macs
from compressor.measure.file_size import safetensors_bytes, tensors_file
from compressor.models.architectures import PLAIN, build, names
from compressor.models.arithmetic import (
    FEWER_CHANNELS,
    FEWER_CLASSES,
    NoSum,
    hold,
    kind_of,
    macs_of_each,
    terms_of,
)
from compressor.models.edits import Edit, apply_edits
from compressor.models.sizes import REFUSALS, sizes_of
from compressor.models.stems import SMALL, edits_for_small_images
from compressor.models.torchvision_ops import torchvision
from compressor.time_limit import TimeLimitExceeded, time_limit
from contract.architecture import ArchitectureEntry
from contract.cost import CHANNELS, CLASSES, FittedMacs, Macs, Parameters, Sizes
from contract.failures import InvalidArchitecture
from contract.model import Architecture, Preprocessing

FILE = Path("contract") / "architectures.json"

#: Building and counting one architecture may take so long, in seconds.
_SECONDS = 300.0
#: Layers without a product that is counted. Without numbers (on the meta device) they take torch longest.
_NORMALIZING = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
_POINTWISE = frozenset({nn.ReLU.__module__, nn.Dropout.__module__, "timm.layers.activations"})
#: Fits of the first strides to images whose sides are no farther apart, and that are the same, are so between them.
_NEAR = 8
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def entries() -> Iterator[ArchitectureEntry]:
    """An entry for each architecture that can be built and answers with logits for one image."""
    wanted = [(library, name) for library in ("torchvision", "timm") for name in sorted(names(library))]
    # Torch does not survive a fork once its threads have begun.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        yield from filter(None, processes.map(entry_of, *zip(*wanted, strict=True)))


def entry_of(library: Any, name: str) -> ArchitectureEntry | None:
    """What the catalogue keeps of one architecture; None, said on stderr, where it cannot be built and counted."""
    try:
        with time_limit(_SECONDS):
            return _entry(library, name)
    except (InvalidArchitecture, TimeLimitExceeded, NoSum, RuntimeError, ValueError, AssertionError) as error:
        sys.stderr.write(f"{library}.{name} is left out: {type(error).__name__} {str(error)[:200]}\n")
        return None


def _entry(library: Any, name: str) -> ArchitectureEntry:
    module = _hollow(library, name, channels=CHANNELS, classes=CLASSES)
    fewer = _hollow(library, name, channels=FEWER_CHANNELS, classes=FEWER_CLASSES)
    preprocessing = _fitting(_documented(library, name), module)
    bare = _bare(module, fewer, preprocessing.size)
    sizes = bare and sizes_of(bare[0], preprocessing.size)
    ours = library == "torchvision"
    counts = bare and sizes and _counts(*bare, sizes, preprocessing.size, fit=ours)
    told = tensors_file(module, fewer, channels=FEWER_CHANNELS, classes=FEWER_CLASSES) if ours else None
    return ArchitectureEntry(
        library=library,
        name=name,
        preprocessing=preprocessing,
        published_accuracy=_accuracy_of_torchvision(name) if ours else None,
        parameters=_parameters(module, fewer),
        size_bytes=safetensors_bytes(module),
        file=told,
        sizes=sizes,
        macs=counts.macs if counts else None,
        counted_since=counts.since if counts else None,
        fitted=counts.fitted if counts else None,
    )


def _parameters(module: nn.Module, fewer: nn.Module) -> Parameters:
    found = {1: 0, CHANNELS: 0, CLASSES: 0}
    for many, few in zip(module.parameters(), fewer.parameters(), strict=True):
        kind = kind_of(many.numel(), few.numel())
        found[kind] += many.numel() // kind
    return Parameters(per_channel=found[CHANNELS], per_class=found[CLASSES], others=found[1])


@dataclass(frozen=True)
class _Counts:
    macs: Macs
    #: The shorter side of images from which on they hold; None where they do for one size alone.
    since: int | None
    fitted: tuple[FittedMacs, ...] | None


def _counts(bare: nn.Module, fewer: nn.Module, sizes: Sizes, size: tuple[int, int], *, fit: bool) -> _Counts | None:
    """The terms for all sizes, or else for the one; None where its operations cannot be counted."""
    try:
        if sizes.only is None:
            macs = terms_of(bare, fewer, size, step=sizes.step)
            since = _since(macs, bare, sizes, size[0])
            return _Counts(macs, since, _fitted(bare, fewer, sizes, size) if fit else None)
    except (NoSum, *REFUSALS) as error:
        sys.stderr.write(f"{type(bare).__name__} is counted for one size: {str(error)[:200]}\n")
    try:
        return _Counts(terms_of(bare, fewer, size, step=None), None, () if fit else None)
    except (NoSum, *REFUSALS):
        return None


def _since(macs: Macs, module: nn.Module, sizes: Sizes, side: int) -> int:
    """The side from which on the terms hold: the smallest that is taken, or twice that, and so on.

    Raises `NoSum` where they do not hold for a large image, or for one that is not square.
    """
    larger = 2 * side + 3 * sizes.step
    others = [(larger, larger)] if sizes.square else [(larger, larger), (side + sizes.step, side + 5 * sizes.step)]
    doubled = takewhile(lambda one: one < side, (sizes.least << n for n in count()))
    since = next((one for one in doubled if hold(macs, module, one, one)), side)
    if not all(hold(macs, module, *one) for one in others):
        raise NoSum("its terms do not hold at other sizes")
    return since


def _bare(module: nn.Module, fewer: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, nn.Module] | None:
    """Both without what has no product, which is counted many times as fast; as they are where that counts otherwise.

    None where they cannot be counted.
    """
    shape = (CHANNELS, *size)
    try:
        counted = count_macs(module, shape).total
    except REFUSALS:
        return None
    bare = _products(module)
    try:
        return (bare, _products(fewer)) if sum(macs_of_each(bare, shape)) == counted else (module, fewer)
    except REFUSALS:
        return module, fewer


def _products(module: nn.Module) -> nn.Module:
    """A copy of the network without norms, activations and dropout."""
    bare = copy.deepcopy(module)
    for name, part in list(bare.named_modules()):
        pointwise = type(part).__module__ in _POINTWISE and not isinstance(part, nn.MultiheadAttention)
        if name and (pointwise or isinstance(part, _NORMALIZING)):
            owner, _, attribute = name.rpartition(".")
            setattr(bare.get_submodule(owner), attribute, nn.Identity())
    return bare


def _fitted(bare: nn.Module, fewer: nn.Module, sizes: Sizes, size: tuple[int, int]) -> tuple[FittedMacs, ...]:
    """The terms with first strides fitted to small images, for each kind of fit."""
    found, least = [], sizes.least
    for up_to, edits in _fits(bare, range(sizes.least, SMALL + 1, sizes.step)):
        fit, fit_fewer = _edited(bare, edits), _edited(fewer, edits)
        macs = terms_of(fit, fit_fewer, size, step=sizes.step)
        if not hold(macs, fit, least, least) or not hold(macs, fit, up_to, up_to):
            raise NoSum("its terms with fitted strides do not hold for small images")
        found.append(FittedMacs(up_to=up_to, macs=macs))
        least = up_to + sizes.step
    return tuple(found)


def _edited(module: nn.Module, edits: Sequence[Edit]) -> nn.Module:
    edited = copy.deepcopy(module)
    apply_edits(edited, edits)
    return edited


def _fits(module: nn.Module, sides: Sequence[int]) -> list[tuple[int, tuple[Edit, ...]]]:
    """What is done to the network for images of each side, and the largest for which it is that.

    Between two sides not far from each other for which it is the same, it is that too.
    """
    edits = cache(lambda side: edits_for_small_images(module, (CHANNELS, side, side)))

    def between(low: int, high: int) -> Iterator[int]:
        if high - low > (_NEAR if edits(sides[low]) == edits(sides[high]) else 1):
            middle = (low + high) // 2
            yield from between(low, middle)
            yield from between(middle, high)
        elif edits(sides[low]) != edits(sides[high]):
            yield low

    last = len(sides) - 1
    ends = [*between(0, last), last] if sides else []
    found = [(sides[end], edits(sides[end])) for end in ends]
    return found if found and found[-1][1] else found[:-1]


def _hollow(library: Any, name: str, *, channels: int, classes: int) -> nn.Module:
    architecture = Architecture(library=library, name=name, options={"num_classes": classes})
    try:
        return build(architecture, in_channels=channels, device="meta").eval()
    except InvalidArchitecture:
        return build(architecture, in_channels=channels).to("meta").eval()


def _fitting(documented: Preprocessing, module: nn.Module) -> Preprocessing:
    """With the size that the architecture takes, where that is not the one of its best weights."""
    side = getattr(module, "image_size", documented.size[0])
    return documented if side == documented.size[0] else documented.model_copy(update={"size": (side, side)})


def _documented(library: str, name: str) -> Preprocessing:
    return _of_torchvision(name) if library == "torchvision" else _of_timm(name)


def _of_torchvision(name: str) -> Preprocessing:
    """What the default weights were evaluated with; their resize over their crop is the crop's fraction."""
    transforms = torchvision().models.get_model_weights(name).DEFAULT.transforms()
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if "transform_input" in PLAIN.get(name, {}):
        # With their published weights torchvision has these turn images into what TensorFlow's networks want, which are
        # those of this normalization; here they are built without that.
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
