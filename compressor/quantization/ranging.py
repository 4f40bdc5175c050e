"""Codes of activations, from the ranges that they take on calibration images."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from compressor.context import Context
from compressor.data.images import Images
from compressor.inputs import not_finite
from compressor.quantization.calibration import Activity, calibrated, tracker
from compressor.quantization.codes import activation_code
from compressor.quantization.graph import sites
from compressor.quantization.plan import TOP, ActivationCode
from compressor.quantization.products import natural_range
from compressor.quantization.symmetry import symmetric
from contract.failures import InvalidDataset, MissingData
from contract.methods.quantize import Calibrator

_BATCH = 32
#: Fewer calibration images than this tell little of an activation's range.
_FEW = 32
#: Images that run through float and quantized network side by side: so many pixels, and not fewer than the least.
_PIXELS, _LEAST = 2**19, 32
#: Pixels of the images whose activations at one place of the network are kept together.
_KEPT_PIXELS = 2**23


def calibration_images(context: Context, *, samples: int, method: str) -> Images:
    """At most so many images to measure ranges on; raises `MissingData`, and `InvalidDataset` where all are one."""
    if context.calibration is None:
        raise MissingData(f"{method} needs images to measure the activations' ranges on.")
    images = context.calibration.take(samples, seed=context.seed)
    if len(images) > 1 and bool((images.pixels == images.pixels[:1]).all()):
        raise InvalidDataset("All calibration images are the same, so they tell nothing of an activation's range.")
    if len(images) < _FEW:
        context.notice("few_calibration_images", f"The activations' ranges come from {len(images)} images only.")
    return images


def side_by_side(images: Images, context: Context) -> Tensor:
    """As many of the images (N, C, H, W) as can run through float and quantized network side by side.

    Bias correction, the ranking of layers and fidelity rest on them: 32 at 224 pixels, 512 at 32. Each run keeps the
    activations of all of them at once, and over 256 images fidelity alone would take twice as long as calibration.
    """
    # A pixel's channels together: convolutions, and so the whole run, take a sixth less time.
    return _within(_PIXELS, images, context).to(context.device, memory_format=torch.channels_last)


def kept_together(images: Images, context: Context) -> Tensor:
    """As many of the images (N, C, H, W) as can be kept with what some layer makes of them; on the CPU."""
    return _within(_KEPT_PIXELS, images, context)


def _within(pixels: int, images: Images, context: Context) -> Tensor:
    height, width = images.preprocessing.size
    few = images.take(max(_LEAST, pixels // (height * width)), seed=context.seed)
    return few.normalized(few.pixels)


def batches(images: Images, context: Context, phase: str, start: float, end: float) -> Iterator[Tensor]:
    """The images (N, C, H, W), while progress goes from `start` to `end`."""
    done = 0
    for batch in images.batches(_BATCH, device=context.device):
        yield batch.x
        done += len(batch.y)
        context.progress(start + (end - start) * (done / len(images)), phase)


@dataclass(frozen=True, kw_only=True)
class Ranging:
    """How ranges are measured, and how they become codes."""

    calibrator: Calibrator
    #: What calibrator percentile keeps of the values.
    percent: float = 100.0
    #: Whether codes go as far below zero as above it, where there are values below it.
    symmetric: bool = False
    #: Whether a file has int8.
    signed: bool = False
    #: The largest code.
    top: int = TOP

    def codes(
        self, graph: GraphModule, nodes: Collection[Node], images: Iterable[Tensor], context: Context
    ) -> dict[Node, ActivationCode]:
        """The codes of activations (N, ...) of a captured graph; raises `UnfitModel` where one is not finite."""
        names = sites(graph)
        seen = calibrated(
            graph,
            [node for node in names if node in nodes],
            images,
            lambda: tracker(self.calibrator, percent=self.percent, top=self.top),
        )
        _check({names[node]: activity for node, activity in seen.items()}, context)
        return {node: self._code(node, activity) for node, activity in seen.items()}

    def _code(self, node: Node, activity: Activity) -> ActivationCode:
        natural = natural_range(node)
        range_ = activity.chosen.range() if natural is None else natural
        if self.symmetric:
            range_ = symmetric(range_)
        return activation_code(*range_, top=self.top).model_copy(update={"signed": self.signed})


def _check(seen: Mapping[str, Activity], context: Context) -> None:
    """Refuse what is not finite, and tell of what never changes; by site."""
    for site, activity in seen.items():
        if not activity.extremes.finite:
            raise not_finite(site, layer=site.rpartition("/")[0])
    constant = [site for site, activity in seen.items() if activity.constant]
    if constant:
        context.notice(
            "constant_activations",
            f"What {', '.join(constant[:4])} gives is the same number everywhere, so its range is a guess.",
        )
