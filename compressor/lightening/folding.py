"""Batch normalization, multiplied into the layer before it (Jacob et al. 2018, arXiv:1712.05877, section 3.2)."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn
from torch.fx import GraphModule, Node

from compressor.lightening.activations import name_of
from compressor.lightening.network import Network
from compressor.models.edits import Edit, Remove, Replace, Set
from compressor.models.parts import Activation
from compressor.quantization.graph import aten, capture, only_user, parameter_name, tensor
from compressor.quantization.products import factor, normalization_behind, products
from compressor.quantization.solitary import solitary

_Norm = nn.modules.batchnorm._BatchNorm


def fold(network: Network) -> dict[str, str]:
    """Fold what can be folded; returns the layers that have taken a normalization in, by the normalization's name.

    The others, and why they stay, are among what the network has left.
    """
    graph = capture(network.module, network.input_shape)
    uses = Counter(_owner(node) for node in graph.graph.nodes if node.target is aten.batch_norm.default)
    found = {}
    for layer, normalization, weight in _behind_layers(graph):
        name = _owner(normalization)
        if not (network.may_change(layer) and network.may_change(name)):
            continue
        rest = _rest(network.module.get_submodule(name), name)
        if layer in network.coded or name in network.coded | network.masked:
            network.left[name] = "fold_batch_norm: an earlier step has settled its numbers, or those of the layer"
        elif weight is None or uses[name] > 1:
            network.left[name] = "fold_batch_norm: it, or the layer before it, is run more than once"
        elif rest is None:
            network.left[name] = "fold_batch_norm: it does more than normalize"
        else:
            _multiply(network, layer, graph, normalization)
            network.do(rest)
            found[name] = layer
    _tell_of_the_rest(network)
    return found


def _behind_layers(graph: GraphModule) -> Iterator[tuple[str, Node, nn.Parameter | None]]:
    """Layers with a normalization behind them: the layer, the operator that normalizes, the weight if it is alone."""
    for product in products(graph):
        normalization = normalization_behind(product.node) or _behind_linear(product.node)
        if normalization is not None:
            yield product.layer, normalization, solitary(graph, product.node.args[1])


def _behind_linear(node: Node) -> Node | None:
    user = only_user(node) if node.target is aten.linear.default and node.meta["val"].dim() == 2 else None
    return user if user is not None and user.target is aten.batch_norm.default and user.args[3] is not None else None


def _owner(normalization: Node) -> str:
    """Name of the module that has the statistics."""
    return (parameter_name(normalization.args[3]) or "").rpartition(".")[0]


def _rest(part: nn.Module, name: str) -> Edit | None:
    """What a normalization leaves behind when it is folded: nothing, or the activation that timm keeps within it."""
    if type(part) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm):
        return Remove(module=name)
    activation = getattr(part, "act", None)
    if isinstance(activation, nn.Identity):
        return Remove(module=name)
    kind = name_of(activation) if isinstance(activation, nn.Module) else None
    if kind is None or getattr(activation, "approximate", "none") != "none":
        return None
    return Replace(module=name, parts=(Activation(name=kind),))


@torch.no_grad()
def _multiply(network: Network, name: str, graph: GraphModule, normalization: Node) -> None:
    """Let the layer give what the normalization makes of it now."""
    layer = network.module.get_submodule(name)
    weight, mean, beta = layer.weight, tensor(graph, normalization.args[3]), tensor(graph, normalization.args[2])
    assert isinstance(weight, nn.Parameter)
    assert mean is not None
    by_channel = factor(graph, normalization).double()
    if layer.bias is None:
        network.do(Set(module=name, attribute="bias", value=True))
    bias = layer.bias
    assert isinstance(bias, nn.Parameter)
    shifted = (bias.double() - mean.double()) * by_channel
    bias.copy_(shifted if beta is None else shifted + beta.double())
    weight.copy_(weight.double() * by_channel.reshape(-1, *[1] * (weight.dim() - 1)))


def _tell_of_the_rest(network: Network) -> None:
    for name, part in network.module.named_modules():
        if isinstance(part, _Norm) and network.may_change(name):
            network.left.setdefault(name, "fold_batch_norm: no layer lies before it whose outputs it alone reads")
