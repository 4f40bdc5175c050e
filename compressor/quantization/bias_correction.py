"""Bias correction: what quantization shifts on average is taken back.

Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction (arXiv:1906.04721), section
4.2. Rounded weights and clipped activations shift the mean of each channel that a layer gives. The shift is measured on
images, layer by layer with all layers before it corrected already, and goes into the layer's bias, or into the shift of
the batch normalization behind it. A layer that has neither is left as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor
from torch.fx import GraphModule

from compressor.quantization.graph import parameter_name
from compressor.quantization.lockstep import Lockstep, Pair
from compressor.quantization.products import Product, factor, normalization_behind
from compressor.quantization.solitary import solitary


@dataclass(frozen=True)
class Addend:
    """The parameter that shifts the channels that a layer gives."""

    parameter: str
    #: What the layer's output is multiplied with before it is shifted: a number for each channel; one where absent.
    factor: Tensor | None


def addend(module: GraphModule, product: Product) -> Addend | None:
    """Where a correction of this product can go, if it can."""
    own = product.node.args[2] if len(product.node.args) > 2 else None
    if own is not None:
        return _alone(module, own, None)
    normalization = normalization_behind(product.node)
    if normalization is None:
        return None
    return _alone(module, normalization.args[2], factor(module, normalization))


def _alone(module: GraphModule, node: object, multiplied: Tensor | None) -> Addend | None:
    name = parameter_name(node)
    return Addend(name, multiplied) if name is not None and solitary(module, node) is not None else None


def correct(run: Lockstep, product: Product, y: Pair) -> Pair:
    """Correct the quantized network at a product that has just given `y`; returns what it gives now."""
    place = addend(run.graph_module, product)
    if place is None:
        return y
    shift = _shift(y, channel=1 if product.kind == "convolution" else -1)
    by_channel = shift.flatten() if place.factor is None else shift.flatten() * place.factor
    run.parameters[place.parameter] = run.parameter(place.parameter) + by_channel
    # Batch normalization still has to add it.
    return Pair(y.exact, y.coded + shift) if place.factor is None else y


def _shift(y: Pair, *, channel: int) -> Tensor:
    """How far the channels of the quantized layer lie below those of the float one on average; keeps its dimensions."""
    difference: Tensor = y.exact - y.coded
    others = set(range(difference.dim())) - {channel % difference.dim()}
    return difference.mean(sorted(others), keepdim=True)


def uncorrectable(module: GraphModule, products: Iterable[Product]) -> list[str]:
    """The layers that have nowhere to put a correction."""
    return list(dict.fromkeys(product.layer for product in products if addend(module, product) is None))
