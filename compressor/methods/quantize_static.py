"""Post-training quantization to INT8 with ranges measured on calibration data.

Weights: symmetric int8, the range of each output channel. Activations: uint8, one range for the whole tensor, with
zero in it. Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference; per-channel weights after Krishnamoorthi 2018, Quantizing deep convolutional networks for efficient
inference.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn
from torch.fx import GraphModule

from compressor.attention import ATTENTION
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.layers import matches, weighted_modules
from compressor.quantization.calibration import Range, extremes, middles
from compressor.quantization.codes import activation_code, weight_codes
from compressor.quantization.graph import capture, sites
from compressor.quantization.integers import WeightCodes
from compressor.quantization.plan import ActivationCode, QuantizationPlan
from compressor.quantization.processor import weight_bits
from compressor.quantization.products import coded, natural_range
from compressor.quantization.selection import check, replace_weights, report, selected
from contract.failures import MissingData, UnfitModel
from contract.methods.quantize import QuantizeStatic

_KINDS = frozenset({"convolution", "linear"})
_MODULES = (nn.Conv2d, nn.Linear, *ATTENTION)
_BATCH = 32
#: Fewer calibration images than this tell little of an activation's range.
_FEW = 32
#: What the percentile calibrator keeps of an activation's values.
_MIDDLE = 0.9999


def preflight(candidate: Candidate, params: QuantizeStatic) -> None:
    """Raise where no layer can be meant."""
    check(candidate.module, params, kinds=_MODULES, method=params.method)


def apply(candidate: Candidate, params: QuantizeStatic, context: Context) -> Candidate:
    """Give weights their codes and activations their ranges."""
    graph = capture(candidate.module, candidate.input_shape)
    chosen = selected(candidate, graph, params, kinds=_KINDS)
    names = dict.fromkeys(product.parameter for product in chosen)
    static = (frozenset(candidate.plan.integers) - candidate.plan.dynamic) | frozenset(names)
    activations = _measured(graph, static, params, context)
    bits = weight_bits()
    codes = {
        name: weight_codes(candidate.module.get_parameter(name), per_channel=params.per_channel, bits=bits)
        for name in names
    }
    replace_weights(candidate.module, codes)
    report(candidate, codes, context)
    _tell_of_the_rest(candidate, codes, params, context)
    plan = QuantizationPlan({**candidate.plan.weights, **codes}, activations, candidate.plan.dynamic)
    return replace(candidate, plan=plan)


def _measured(
    graph: GraphModule, static: frozenset[str], params: QuantizeStatic, context: Context
) -> dict[str, ActivationCode]:
    images = _images(params, context)
    names = sites(graph)
    nodes = sorted(set(coded(graph, static).values()), key=lambda node: names[node])
    ranges = extremes(graph, nodes, _batches(images, context, "calibration"))
    for node, range_ in ranges.items():
        _check_finite(names[node], range_)
    if params.calibrator == "percentile":
        ranges = middles(graph, ranges, _batches(images, context, "calibration, second pass"), part=_MIDDLE)
    ranges |= {node: natural for node in nodes if (natural := natural_range(node)) is not None}
    context.record("calibrator", params.calibrator)
    context.record("calibration_images", len(images))
    return {names[node]: activation_code(*range_) for node, range_ in ranges.items()}


def _images(params: QuantizeStatic, context: Context) -> Images:
    if context.calibration is None:
        raise MissingData("quantize_static needs images to measure the activations' ranges on.")
    images = context.calibration.take(params.samples, seed=context.seed)
    if len(images) < _FEW:
        context.notice("few_calibration_images", f"The activations' ranges come from {len(images)} images only.")
    return images


def _batches(images: Images, context: Context, phase: str) -> Iterator[Tensor]:
    done = 0
    for batch in images.batches(_BATCH):
        yield batch.x.to(context.device)
        done += len(batch.y)
        context.progress(done / len(images), phase)


def _check_finite(site: str, range_: Range) -> None:
    if not all(math.isfinite(end) for end in range_):
        layer = site.rpartition("/")[0]
        raise UnfitModel(f"The activations at {site} are not finite on the calibration images.", layer=layer)


def _tell_of_the_rest(
    candidate: Candidate, codes: dict[str, WeightCodes], params: QuantizeStatic, context: Context
) -> None:
    taken = {name.rpartition(".")[0] for name in codes} | candidate.plan.layers
    left = [
        name
        for name in weighted_modules(candidate.module)
        if name not in taken and matches(name, include=params.include, exclude=params.exclude)
    ]
    if left:
        context.record("layers_left_float", list(left))
        context.notice("layers_left_alone", f"No integer kernel serves {', '.join(left[:4])}; they stay float32.")
