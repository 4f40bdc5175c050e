"""Where a network multiplies activations with parameters, and which activations are then worth coding."""

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compressor.quantization.graph import aten, only_user, parameter_name, tensor

#: Operators that move values about without making new ones: codes pass through with the scale they have.
_MOVES = {
    aten.max_pool2d.default,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.slice.Tensor,
    aten.select.int,
    aten.chunk.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.dim,
    aten.unsqueeze.default,
    aten.contiguous.default,
    operator.getitem,
}
#: Of these, those that give several activations at once.
_SPLITS = {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default}
#: Operators that an integer kernel can do where all that they read is coded.
_ARITHMETIC = {
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.sigmoid.default,
    aten.hardsigmoid.default,
    aten.cat.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.mean.dim,
    aten.relu.default,
    aten.hardtanh.default,
    aten.relu6.default,
}
#: Of these, those on two activations.
PAIRS = {aten.add.Tensor, aten.mul.Tensor}
_CLAMPS_FROM_ZERO = {aten.relu.default, aten.relu6.default}


@dataclass(frozen=True)
class Product:
    """An operator that multiplies an activation with a parameter."""

    node: Node
    #: Name of the weight.
    parameter: str
    kind: Literal["convolution", "linear", "recurrent"]

    @property
    def layer(self) -> str:
        """Name of the module that has the weight."""
        return self.parameter.rpartition(".")[0]


def products(module: GraphModule) -> tuple[Product, ...]:
    """The operators that can be quantized, in the order in which they run.

    What is computed of parameters alone is none: it is the same for every image, and exporters make a constant of it.
    """
    fed: set[Node] = set()
    for node in module.graph.nodes:
        if node.op == "placeholder" or any(source in fed for source in node.all_input_nodes):
            fed.add(node)
    return tuple(
        product
        for node in module.graph.nodes
        if node.op == "call_function" and node.args and node.args[0] in fed
        for product in _products_of(module, node)
    )


def _products_of(module: GraphModule, node: Node) -> tuple[Product, ...]:
    if node.target in (aten.lstm.input, aten.gru.input):
        weights = [p for p in node.args[2] if (t := tensor(module, p)) is not None and t.dim() == 2]  # type: ignore[union-attr]
        return tuple(Product(node, str(parameter_name(w)), "recurrent") for w in weights)
    weight = node.args[1] if len(node.args) > 1 else None
    name = parameter_name(weight)
    # A fixed filter is a buffer: nobody trained it, and no file holds codes of it.
    if name is None or not isinstance(tensor(module, weight), nn.Parameter):
        return ()
    if node.target is aten.conv2d.default:
        return (Product(node, name, "convolution"),)
    return (Product(node, name, "linear"),) if node.target is aten.linear.default else ()


def normalization_behind(node: Node) -> Node | None:
    """The batch normalization that does nothing but scale and shift the channels of this convolution."""
    user = only_user(node) if node.target is aten.conv2d.default else None
    if user is None or user.target is not aten.batch_norm.default:
        return None
    # Without running statistics it is another one for every batch.
    return user if user.args[3] is not None else None


def spread(module: GraphModule, normalization: Node) -> Tensor:
    """What batch normalization multiplies each channel (channels,) with, but for its own scale."""
    variance = tensor(module, normalization.args[4])
    assert variance is not None
    # On the CPU, which is where files are made: elsewhere the last digit may be another one.
    found = torch.rsqrt(variance.detach().cpu() + float(normalization.args[7]))  # type: ignore[arg-type]
    return found.to(variance.device)


def factor(module: GraphModule, normalization: Node) -> Tensor:
    """What batch normalization multiplies each channel (channels,) with."""
    gamma, found = tensor(module, normalization.args[1]), spread(module, normalization)
    return found if gamma is None else found * gamma.detach()


def result(node: Node) -> Node:
    """What a kernel that computes `node` gives: a ReLU behind it, and behind a convolution batch normalization too."""
    node = normalization_behind(node) or node
    user = only_user(node)
    return user if user is not None and _clamps_from_zero(user) else node


def _clamps_from_zero(node: Node) -> bool:
    if node.target is aten.hardtanh.default:
        return len(node.args) > 1 and float(node.args[1]) == 0.0  # type: ignore[arg-type]
    return node.target in _CLAMPS_FROM_ZERO


def coded(module: GraphModule, parameters: Collection[str]) -> dict[Node, Node]:
    """Which activations are coded when these weights are, and for each the one whose scale it has.

    What goes into a product is coded, what comes out of a convolution, and what is made of coded activations alone, so
    that whole chains run in integers. Linear layers give floats: what follows them mostly wants floats.
    """
    taken = [p for p in products(module) if p.parameter in parameters and p.kind != "recurrent"]
    wanted = {p.node.args[0] for p in taken} | {result(p.node) for p in taken if p.kind == "convolution"}
    owners: dict[Node, Node] = {}
    for node in module.graph.nodes:
        if node in owners:
            continue
        if node.target in _MOVES and node.args[0] in owners:
            owners[node] = owners[node.args[0]]
        elif node in wanted:
            owners[node] = node
        elif _is_arithmetic(node) and all(source in owners for source in node.all_input_nodes):
            made = result(node) if node.target is aten.add.Tensor else node
            owners[made] = made
    return owners


def _is_arithmetic(node: Node) -> bool:
    return node.target in _ARITHMETIC and (node.target not in PAIRS or is_pair(node))


def is_pair(node: Node) -> bool:
    """Whether two activations are added or multiplied, and nothing else."""
    return node.target in PAIRS and len(node.all_input_nodes) == 2 and not node.kwargs


def natural_range(node: Node) -> tuple[float, float] | None:
    """The range of an activation that its operator alone decides."""
    return (0.0, 1.0) if node.target in (aten.sigmoid.default, aten.hardsigmoid.default) else None


def ceiling(node: Node) -> float:
    """The largest activation that an operator lets through."""
    if node.target is aten.relu6.default:
        return 6.0
    if node.target is aten.hardtanh.default:
        return float(node.args[2]) if len(node.args) > 2 else 1.0  # type: ignore[arg-type]
    return math.inf


def gives_several(node: Node) -> bool:
    """Whether the operator gives several activations, each read by a `getitem` of its own."""
    return node.target in _SPLITS
