"""Cross-layer equalization: neighbouring layers share the spread of their weights.

Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction (arXiv:1906.04721), section
4.1. Dividing a channel by s where one layer makes it, and multiplying by s where the next one reads it, leaves the
answers as they are if what lies between is positively homogeneous: f(s x) = s f(x) for s > 0. With s = sqrt(r1 / r2) of
the ranges of its weights on either side (eq. 11), both sides have the range sqrt(r1 r2). ReLU6 is not homogeneous:
layers with one between them are left as they are.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compressor.quantization.graph import aten, only_user, tensor
from compressor.quantization.products import Product, normalization_behind, products, spread
from compressor.quantization.solitary import solitary

#: What a channel may pass through between the two layers.
_HOMOGENEOUS = {aten.relu.default, aten.leaky_relu.default}
#: Channels of a convolution may pass through these too.
_POOLS = {aten.max_pool2d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default}
#: Rounds over chains of layers; a few suffice (section 4.1), and the answers do not depend on it.
_ROUNDS, _SETTLED = 20, 1e-3


@dataclass(frozen=True)
class Neighbours:
    """Two layers, the channels of the first of which are read by the second alone."""

    first: str
    second: str
    #: (out, ...): its rows make the channels.
    maker: Tensor
    #: What batch normalization multiplies the rows with, but for its own scale; one where there is none.
    spread: Tensor
    #: Of length out: these are divided by s.
    divided: tuple[Tensor, ...]
    #: Whether the rows themselves are divided, and not what batch normalization makes of them.
    plain: bool
    #: (out, in / groups, ...): its columns read the channels; a depthwise layer's rows do.
    reader: Tensor
    depthwise: bool

    def equalize(self) -> float:
        """Share the spread; returns how far the largest factor was from one."""
        made, read = self._ranges()
        both = (made > 0) & (read > 0)
        s = torch.where(both, (made / read).sqrt(), torch.ones_like(made))
        for part in (*self.divided, *((self.maker,) if self.plain else ())):
            part.div_(s.reshape(-1, *[1] * (part.dim() - 1)))
        self._columns().mul_(s.reshape(-1, *[1] * (self.reader.dim() - 1)))
        return float((s.log().abs()).max())

    def _ranges(self) -> tuple[Tensor, Tensor]:
        made = self.maker.abs().flatten(1).amax(1) * self.spread
        if not self.plain:
            made = made * self.divided[0].abs()
        return made, self._columns().abs().flatten(1).amax(1)

    def _columns(self) -> Tensor:
        """The second layer's weights by the channel that they read."""
        return self.reader if self.depthwise else self.reader.transpose(0, 1)


def equalize(module: GraphModule, *, among: Collection[str]) -> list[str]:
    """Equalize neighbouring layers of a captured graph in place, where the weights of both are among the named.

    What was zero stays zero. Returns the names of the layers that make what was scaled.
    """
    found = tuple(neighbours(module, among=among))
    with torch.no_grad():
        for _ in range(_ROUNDS):
            if max((pair.equalize() for pair in found), default=0.0) < _SETTLED:
                break
    return [pair.first for pair in found]


def neighbours(module: GraphModule, *, among: Collection[str]) -> Iterator[Neighbours]:
    """The pairs that can share their spread, in the order in which they run."""
    found: dict[Node | None, Product] = {p.node: p for p in products(module) if p.parameter in among}
    for first in found.values():
        second = found.get(_reader(first))
        pair = _neighbours(module, first, second) if second is not None and second.kind == first.kind else None
        if pair is not None:
            yield pair


def _reader(product: Product) -> Node | None:
    """The one operator that reads a layer's channels, through nothing but what is homogeneous."""
    homogeneous = _HOMOGENEOUS | (_POOLS if product.kind == "convolution" else set())
    user = only_user(normalization_behind(product.node) or product.node)
    while user is not None and user.target in homogeneous:
        user = only_user(user)
    return user


def _neighbours(module: GraphModule, first: Product, second: Product) -> Neighbours | None:
    maker, reader = (solitary(module, product.node.args[1]) for product in (first, second))
    if maker is None or reader is None:
        return None
    depthwise = reader.dim() == 4 and reader.shape[1] == 1 and reader.shape[0] == maker.shape[0]
    scaled = _scaled(module, first.node)
    if scaled is None or (not depthwise and reader.shape[1] != maker.shape[0]):
        return None
    return Neighbours(first.layer, second.layer, maker, *scaled, reader, depthwise)


def _scaled(module: GraphModule, node: Node) -> tuple[Tensor, tuple[Tensor, ...], bool] | None:
    """What to divide where a channel is made: batch normalization's scale and shift, or else rows and bias."""
    normalization = normalization_behind(node)
    if normalization is not None:
        affine = [solitary(module, part) for part in normalization.args[1:3]]
        if any(part is None for part in affine):
            return None
        return spread(module, normalization), tuple(part.data for part in affine if part is not None), False
    has_bias = len(node.args) > 2 and node.args[2] is not None
    bias = solitary(module, node.args[2]) if has_bias else None
    weight = tensor(module, node.args[1])
    assert isinstance(weight, nn.Parameter)
    if has_bias and bias is None:
        return None
    return weight.new_ones(weight.shape[0]), () if bias is None else (bias.data,), True
