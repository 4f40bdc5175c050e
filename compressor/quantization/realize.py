"""A plan made real: the network's graph with the plan's codes in it, and integer arithmetic between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

import compressor.quantization.operators  # noqa: F401  (registers the operators)
from compressor.quantization.codes import scaled
from compressor.quantization.graph import aten, constant, sites, tensor
from compressor.quantization.integers import WeightCodes
from compressor.quantization.plan import TOP, ActivationCode, QuantizationPlan
from compressor.quantization.products import (
    Product,
    coded,
    factor,
    gives_several,
    is_pair,
    normalization_behind,
    products,
    result,
)

ours = torch.ops.modelpress
#: By which ONNX Runtime's kernel multiplies a sum at least, and at most.
_FACTORS = (2.0**-31, 2.0**7)


def realize(module: GraphModule, plan: QuantizationPlan) -> None:
    """Rewrite a captured graph so that it computes what the plan means."""
    rewriting = _Rewriting(module, plan, sites(module), coded(module, plan.static))
    multiplied = plan.static | plan.dynamic
    taken = {p.node: p for p in products(module) if p.parameter in multiplied and p.kind != "recurrent"}
    for node in list(module.graph.nodes):
        if node in taken:
            rewriting.product(taken[node])
        elif node in rewriting.owners and node not in rewriting.gone:
            rewriting.activation(node)
    module.graph.eliminate_dead_code()
    module.recompile()


@dataclass(frozen=True)
class _Rewriting:
    """One pass over a graph, in the order in which it runs."""

    module: GraphModule
    plan: QuantizationPlan
    names: Mapping[Node, str]
    owners: Mapping[Node, Node]
    #: The code of each activation of the new graph that has one.
    codes: dict[Node, ActivationCode] = field(default_factory=dict)
    #: Operators that another one now does too.
    gone: set[Node] = field(default_factory=set)

    def product(self, product: Product) -> None:
        weight = _by_channel(self.plan.integers[product.parameter])
        if product.kind == "convolution":
            self._convolution(product, weight)
        elif product.parameter in self.plan.dynamic:
            self._dynamic_linear(product, weight)
        else:
            self._linear(product, weight)

    def activation(self, node: Node) -> None:
        if gives_several(node):
            return
        code = self._planned(node)
        pair = _pair_that_makes(node)
        x = node.all_input_nodes[0] if node.all_input_nodes else None
        if pair is not None and all(part in self.codes for part in pair.args):
            self._pair(pair, node, code)
        elif x in self.codes and _averages_a_map(node):
            code = _within_reach(code, x, self.codes[x])
            self._replace(node, ours.average.default, (x, self.codes[x].scale, code.scale, code.zero_point), code)
        elif x in self.codes and node.target is aten.hardsigmoid.default:
            self._replace(node, ours.hard_sigmoid.default, (x, self.codes[x].scale, self.codes[x].zero_point), code)
        else:
            self._insert(node, code, clipped=self.owners[node] is node)

    def _planned(self, node: Node) -> ActivationCode:
        return self.plan.activations[self.names[self.owners[node]]]

    def _insert(self, node: Node, code: ActivationCode, *, clipped: bool) -> None:
        with self.module.graph.inserting_after(node):
            new = self.module.graph.call_function(ours.quantize.default, (node, code.scale, code.zero_point))
        new.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self._have(new, code, clipped=clipped)

    def _pair(self, pair: Node, made: Node, code: ActivationCode) -> None:
        parts = [self.codes[part] for part in pair.all_input_nodes]
        scales = [number for part in (*parts, code) for number in (part.scale, part.zero_point)]
        operator = ours.add.default if pair.target is aten.add.Tensor else ours.multiply.default
        self._replace(made, operator, (*pair.args, *scales), code)

    def _convolution(self, product: Product, weight: WeightCodes) -> None:
        x, _, bias, stride, padding, dilation, groups = _complete(
            product.node.args, 7, (None, [1, 1], [0, 0], [1, 1], 1)
        )
        made = result(product.node)
        code, x_scale = self._planned(made), self.codes[x].scale
        scale, shift = self._affine(product, bias, weight)
        folded, bias_codes = scaled(weight, scale, shift, x_scale)
        constants = self._constants(product, folded.codes, folded.scale, bias_codes)
        geometry = (_both(stride), _both(padding), _both(dilation), groups)
        args = (x, *constants, *geometry, x_scale, code.scale, code.zero_point)
        self._replace(made, ours.convolution.default, args, code)

    def _affine(self, product: Product, bias: Node | None, weight: WeightCodes) -> tuple[Tensor, Tensor]:
        """What scales a convolution's channels and what is added to them, its batch normalization included."""
        channels = weight.codes.shape[0]
        own = tensor(self.module, bias)
        shift = torch.zeros(channels) if own is None else own.detach().cpu()
        normalization = normalization_behind(product.node)
        if normalization is None:
            return torch.ones(channels), shift
        beta, mean = (tensor(self.module, node) for node in normalization.args[2:4])
        assert mean is not None
        scale = factor(self.module, normalization).cpu()
        shift = (shift - mean.detach().cpu()) * scale
        return scale, shift if beta is None else shift + beta.detach().cpu()

    def _linear(self, product: Product, weight: WeightCodes) -> None:
        x, _, bias = _complete(product.node.args, 3, (None,))
        x_scale = self.codes[x].scale
        addend = tensor(self.module, bias)
        if addend is not None and product.node.meta["val"].dim() == 2:
            # The runtime has an integer kernel for Gemm, whose bias is int32, and for MatMul, which has none.
            ones = torch.ones(weight.codes.shape[0])
            weight, addend = scaled(weight, ones, addend.detach().cpu(), x_scale)
        constants = self._constants(product, weight.codes.t().contiguous(), weight.scale, addend)
        self._linear_gives(product, ours.linear.default, (x, *constants, x_scale))

    def _dynamic_linear(self, product: Product, weight: WeightCodes) -> None:
        x, _, bias = _complete(product.node.args, 3, (None,))
        constants = self._constants(product, weight.codes.t().contiguous(), weight.scale, tensor(self.module, bias))
        self._linear_gives(product, ours.dynamic_linear.default, (x, *constants))

    def _linear_gives(self, product: Product, operator: object, args: tuple[object, ...]) -> None:
        """Linear layers give floats, which are coded where another product takes them as they are."""
        new = self._replace(product.node, operator, args)
        if product.node in self.owners:
            self._insert(new, self._planned(product.node), clipped=True)

    def _constants(
        self, product: Product, codes: Tensor, scale: Tensor, bias: Tensor | None
    ) -> tuple[Node, Node, Node | None]:
        """Buffers of the graph, where they can be read before the product."""
        named = {"codes": codes, "scale": scale} | ({} if bias is None else {"bias": bias.detach()})
        device = self.module.get_parameter(product.parameter).device
        name_of = product.parameter.removesuffix(".weight")
        nodes = [
            constant(self.module, f"{name_of}_{name}", value.to(device), before=product.node)
            for name, value in named.items()
        ]
        return nodes[0], nodes[1], nodes[2] if bias is not None else None

    def _replace(
        self, made: Node, operator: object, args: tuple[object, ...], code: ActivationCode | None = None
    ) -> Node:
        """Let `operator` make what `made` made, and what was computed on the way to it alone."""
        graph = self.module.graph
        with graph.inserting_before(made):
            new = graph.call_function(operator, args)  # type: ignore[arg-type]
        new.meta["val"] = made.meta["val"]
        made.replace_all_uses_with(new)
        self.gone.add(made)
        if code is not None:
            self._have(new, code, clipped=True)
        return new

    def _have(self, node: Node, code: ActivationCode, *, clipped: bool) -> None:
        """Note the code of what the node makes; fewer bits than eight end before saturation does."""
        if not clipped or code.top == TOP:
            self.codes[node] = code
            return
        with self.module.graph.inserting_after(node):
            new = self.module.graph.call_function(ours.clip.default, (node, code.scale, code.zero_point, code.top))
        new.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self.codes[new] = code


def _by_channel(weight: WeightCodes) -> WeightCodes:
    """The same weight with a scale for each output channel, which is the only form that kernels get."""
    return replace(weight, scale=weight.scale.expand(weight.codes.shape[0]).contiguous(), axis=0)


def _pair_that_makes(node: Node) -> Node | None:
    """The sum of two activations of one shape, or the product of two, whose result `node` is."""
    pair = node if is_pair(node) else node.args[0] if node.args else None
    if not isinstance(pair, Node) or not is_pair(pair) or (pair is not node and result(pair) is not node):
        return None
    a, b = (part.meta["val"].shape for part in pair.all_input_nodes)
    return pair if pair.target is aten.mul.Tensor or a == b else None


def _within_reach(code: ActivationCode, x: Node, given: ActivationCode) -> ActivationCode:
    """The code of an average whose step is so near that of the averaged that the kernel takes it."""
    height, width = x.meta["val"].shape[2:]
    largest, least = (given.scale / (int(height) * int(width) * factor) for factor in _FACTORS)
    scale = min(max(code.scale, least), largest)
    return code if scale == code.scale else code.model_copy(update={"scale": scale})


def _averages_a_map(node: Node) -> bool:
    return node.target is aten.adaptive_avg_pool2d.default and node.args[1] in (1, [1, 1])


def _both(sizes: int | list[int]) -> list[int]:
    """Height and width of a stride, a padding or a dilation, which may be given as one number."""
    numbers = [sizes] if isinstance(sizes, int) else list(sizes)
    return numbers * 2 if len(numbers) == 1 else numbers


def _complete(args: tuple[Any, ...], count: int, defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of an operator with the defaults of those that were left out at the end."""
    return (*args, *defaults[len(args) - count :]) if len(args) < count else args
