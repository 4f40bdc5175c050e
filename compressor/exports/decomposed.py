"""The quantized operators as the patterns that torch's backends replace by integer kernels.

`quantized_decomposed` operators stand around those of floats, with the scales and the codes of the plan. This is what
torchao's PT2E flow converts to as well, from ranges of its own.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # Registers their operators.
from torch import Tensor
from torch.fx import GraphModule, Node

from compressor.quantization.graph import aten, constant, tensor
from compressor.quantization.operators import SIXTH

ours, theirs = torch.ops.modelpress, torch.ops.quantized_decomposed
QUANTIZE, DEQUANTIZE = theirs.quantize_per_tensor.default, theirs.dequantize_per_tensor.default

#: Scale, zero point and ends of an activation's codes.
Code = tuple[Any, ...]
#: What is written for a call of ours: from the writer, the node and its arguments to what takes its place.
Rule = Callable[..., Node]


@dataclass(frozen=True)
class Ends:
    """The least and the largest code, and their type."""

    least: int
    largest: int
    dtype: torch.dtype

    def told(self) -> tuple[int, int, torch.dtype]:
        """As every operator on codes is told."""
        return self.least, self.largest, self.dtype


INT8, UINT8 = Ends(-128, 127, torch.int8), Ends(0, 255, torch.uint8)


def spell_out(module: GraphModule, ends: Ends, rules: Mapping[object, Rule]) -> None:
    """Write each of our operators in a realized graph by its rule; activations get codes between `ends`."""
    writer = Writer(module, ends)
    for node in list(module.graph.nodes):
        rule = rules.get(node.target)
        if rule is not None:
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(rule(writer, node, *node.args))
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


class Writer:
    """One pass over a graph, which writes at the place where the graph inserts."""

    def __init__(self, module: GraphModule, ends: Ends) -> None:
        self.module, self.ends = module, ends

    def call(self, target: Callable[..., Any], *args: Any) -> Node:
        """A call of one operator."""
        return self.module.graph.call_function(target, args)

    def coded(self, x: Node, code: Code) -> Node:
        """The nearest of the numbers that these codes mean."""
        return self.call(DEQUANTIZE, self.call(QUANTIZE, x, *code), *code)

    def coded_as_it_comes(self, x: Node) -> Node:
        """The same by codes over the range of what comes: of all of it in torch, of each row in XNNPACK."""
        least, largest, dtype = self.ends.told()
        chosen = self.call(theirs.choose_qparams.tensor, x, least, largest, torch.finfo(torch.float32).eps, dtype)
        code = (*(self.call(operator.getitem, chosen, part) for part in (0, 1)), *self.ends.told())
        codes = self.call(theirs.quantize_per_tensor.tensor, x, *code)
        return self.call(theirs.dequantize_per_tensor.tensor, codes, *code)

    def quantize(self, node: Node, x: Node, scale: float, zero_point: int) -> Node:
        """By a plan's scale and zero point, whose codes begin with 0."""
        del node
        return self.coded(x, (scale, zero_point + self.ends.least, *self.ends.told()))

    def clip(self, node: Node, x: Node, scale: float, zero_point: int, top: int) -> Node:
        """Codes that end at `top`."""
        clipped = self.call(aten.clamp.default, x, -zero_point * scale, (top - zero_point) * scale)
        return self.quantize(node, clipped, scale, zero_point)

    def convolution(
        self, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None, *geometry_and_scales: Any
    ) -> Node:
        """Coded, as it takes codes."""
        *geometry, x_scale, scale, zero_point = geometry_and_scales
        weight = self.weight(node, codes, self.value(codes), weight_scale)
        shift = self.bias(node, bias, weight_scale, x_scale)
        made = self.call(aten.conv2d.default, x, weight, shift, *geometry)
        return self.quantize(node, made, scale, zero_point)

    def linear(self, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None, x_scale: float) -> Node:
        """From codes to floats."""
        weight = self.weight(node, codes, self.value(codes).t(), weight_scale)
        return self.call(aten.linear.default, x, weight, self.bias(node, bias, weight_scale, x_scale))

    def dynamic_linear(self, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None) -> Node:
        """From floats to floats, by codes between."""
        weight = self.weight(node, codes, self.value(codes).t(), weight_scale)
        return self.call(aten.linear.default, self.coded_as_it_comes(x), weight, bias)

    def add(self, node: Node, a: Node, b: Node, *scales: Any) -> Node:
        """A coded sum."""
        return self.quantize(node, self.call(aten.add.Tensor, a, b), *scales[-2:])

    def multiply(self, node: Node, a: Node, b: Node, *scales: Any) -> Node:
        """A coded product."""
        return self.quantize(node, self.call(aten.mul.Tensor, a, b), *scales[-2:])

    def hard_sigmoid(self, node: Node, x: Node, x_scale: float, x_zero_point: int) -> Node:
        """A sum with 3 that saturates at both ends, and a product with a sixth that leaves its codes as they are."""
        del x_scale, x_zero_point
        up_to_six = self.quantize(node, self.call(aten.add.Tensor, x, self._number(node, 3.0)), SIXTH * 6, 0)
        return self.quantize(node, self.call(aten.mul.Tensor, up_to_six, self._number(node, 1 / 6)), SIXTH, 0)

    def average(self, node: Node, x: Node, x_scale: float, scale: float, zero_point: int) -> Node:
        """The coded mean of each channel."""
        del x_scale
        return self.quantize(node, self.call(aten.mean.dim, x, [2, 3], True), scale, zero_point)

    def _number(self, node: Node, value: float) -> Node:
        """A number beside activations (N, C, H, W), as the largest code."""
        code = torch.full((1, 1, 1, 1), self.ends.largest, dtype=self.ends.dtype)
        read = constant(self.module, "number", code, before=node)
        return self.call(DEQUANTIZE, read, value / self.ends.largest, 0, *self.ends.told())

    def weight(self, node: Node, named: Node, rows: Tensor, scale: Node) -> Node:
        """The weight (out, ...) that int8 codes of this shape mean, each row by its own scale."""
        parts = {
            "rows": rows.contiguous(),
            "scales": self.value(scale).clone(),
            "zeros": torch.zeros(len(rows), dtype=torch.int64),
        }
        read = [constant(self.module, f"{named.target}_{name}", part, before=node) for name, part in parts.items()]
        return self.call(theirs.dequantize_per_channel.default, *read, 0, *INT8.told())

    def bias(self, node: Node, bias: Node | None, weight_scale: Node, x_scale: float) -> Node | None:
        """The bias in floats, of which kernels that add whole numbers make the same ones again."""
        if bias is None or self.value(bias).is_floating_point():
            return bias
        value = self.value(bias) * (self.value(weight_scale) * x_scale)
        return constant(self.module, f"{bias.target}_floats", value, before=node)

    def value(self, node: Node) -> Tensor:
        """What a node reads."""
        value = tensor(self.module, node)
        assert value is not None
        return value.detach()


RULES: Mapping[object, Rule] = {
    ours.quantize.default: Writer.quantize,
    ours.clip.default: Writer.clip,
    ours.convolution.default: Writer.convolution,
    ours.linear.default: Writer.linear,
    ours.dynamic_linear.default: Writer.dynamic_linear,
    ours.add.default: Writer.add,
    ours.multiply.default: Writer.multiply,
    ours.hard_sigmoid.default: Writer.hard_sigmoid,
    ours.average.default: Writer.average,
}
