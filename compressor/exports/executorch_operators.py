"""The quantized operators as the patterns that ExecuTorch's XNNPACK backend replaces by integer kernels.

XNNPACK has int8 where a plan has uint8: codes and zero points are both less 128, and mean the same numbers.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.ao.quantization.fx._decomposed  # Registers their operators.
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from compressor.quantization.graph import aten, constant, only_user, tensor
from compressor.quantization.operators import SIXTH

ours, theirs = torch.ops.modelpress, torch.ops.quantized_decomposed
_LOWEST = -128
#: The least and the largest code, and their type, as every operator on codes is told.
_ENDS = (_LOWEST, 127, torch.int8)
_QUANTIZE, _DEQUANTIZE = theirs.quantize_per_tensor.default, theirs.dequantize_per_tensor.default
#: Operators whose kernel takes and gives codes of one scale alone.
_OF_ONE_SCALE = {
    aten.cat.default,
    aten.relu.default,
    aten.hardtanh.default,
    aten.clamp.default,
    aten.max_pool2d.default,
    aten.permute.default,
    aten.view.default,
    aten.slice.Tensor,
    aten.unsqueeze.default,
}
#: Operators that the kernel in front does too.
_CLAMPS = {aten.relu.default, aten.hardtanh.default}

#: Scale, zero point and ends of an activation's codes.
Code = tuple[Any, ...]


def spell_out(module: GraphModule) -> None:
    """Write each of our operators in a realized graph as the pattern of its integer kernel."""
    writing = _Writing(module)
    for node in list(module.graph.nodes):
        rule = _RULES.get(node.target)
        if rule is not None:
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(rule(writing, node, *node.args))
            module.graph.erase_node(node)
    writing.share_scales()
    writing.part_readers()
    module.graph.eliminate_dead_code()
    module.recompile()


class _Writing:
    """One pass over a graph, which writes at the place where the graph inserts."""

    def __init__(self, module: GraphModule) -> None:
        self.module = module

    def call(self, target: Callable[..., Any], *args: Any) -> Node:
        return self.module.graph.call_function(target, args)

    def quantize(self, node: Node, x: Node, scale: float, zero_point: int) -> Node:
        del node
        return self._coded(x, (scale, zero_point + _LOWEST, *_ENDS))

    def _coded(self, x: Node, code: Code) -> Node:
        return self.call(_DEQUANTIZE, self.call(_QUANTIZE, x, *code), *code)

    def clip(self, node: Node, x: Node, scale: float, zero_point: int, top: int) -> Node:
        clipped = self.call(aten.clamp.default, x, -zero_point * scale, (top - zero_point) * scale)
        return self.quantize(node, clipped, scale, zero_point)

    def convolution(
        self, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None, *geometry_and_scales: Any
    ) -> Node:
        *geometry, x_scale, scale, zero_point = geometry_and_scales
        weight = self._weight(node, codes, self._tensor(codes), weight_scale)
        shift = self._bias(node, bias, weight_scale, x_scale)
        made = self.call(aten.conv2d.default, x, weight, shift, *geometry)
        return self.quantize(node, made, scale, zero_point)

    def linear(self, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None, x_scale: float) -> Node:
        """XNNPACK has a kernel from codes to codes, and one to floats, which measures the range of its input itself.

        Before that one each row gets both ends of its codes' range, for weights of zero: so it measures the plan's.
        """
        rows = self._tensor(codes).t()
        shift = self._bias(node, bias, weight_scale, x_scale)
        if not _becomes_codes(node):
            ends = _ends(x)
            for end in ends:
                x = self.call(aten.constant_pad_nd.default, x, [0, 1], end)
            x, rows = self._coded_as_it_comes(x), F.pad(rows, (0, len(ends)))
        return self.call(aten.linear.default, x, self._weight(node, codes, rows, weight_scale), shift)

    def dynamic_linear(self, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None) -> Node:
        weight = self._weight(node, codes, self._tensor(codes).t(), weight_scale)
        return self.call(aten.linear.default, self._coded_as_it_comes(x), weight, bias)

    def _coded_as_it_comes(self, x: Node) -> Node:
        """Of each row's own range."""
        chosen = self.call(theirs.choose_qparams.tensor, x, *_ENDS[:2], torch.finfo(torch.float32).eps, _ENDS[2])
        code = (*(self.call(operator.getitem, chosen, part) for part in (0, 1)), *_ENDS)
        codes = self.call(theirs.quantize_per_tensor.tensor, x, *code)
        return self.call(theirs.dequantize_per_tensor.tensor, codes, *code)

    def add(self, node: Node, a: Node, b: Node, *scales: Any) -> Node:
        return self.quantize(node, self.call(aten.add.Tensor, a, b), *scales[-2:])

    def multiply(self, node: Node, a: Node, b: Node, *scales: Any) -> Node:
        return self.quantize(node, self.call(aten.mul.Tensor, a, b), *scales[-2:])

    def hard_sigmoid(self, node: Node, x: Node, x_scale: float, x_zero_point: int) -> Node:
        """A sum with 3 that saturates at both ends, and a product with a sixth that leaves its codes as they are."""
        del x_scale, x_zero_point
        up_to_six = self.quantize(node, self.call(aten.add.Tensor, x, self._number(node, 3.0)), SIXTH * 6, 0)
        return self.quantize(node, self.call(aten.mul.Tensor, up_to_six, self._number(node, 1 / 6)), SIXTH, 0)

    def average(self, node: Node, x: Node, x_scale: float, scale: float, zero_point: int) -> Node:
        del x_scale
        return self.quantize(node, self.call(aten.mean.dim, x, [2, 3], True), scale, zero_point)

    def _number(self, node: Node, value: float) -> Node:
        """A number beside activations (N, C, H, W), as the largest code."""
        largest = _ENDS[1]
        code = torch.full((1, 1, 1, 1), largest, dtype=torch.int8)
        return self.call(_DEQUANTIZE, constant(self.module, "number", code, before=node), value / largest, 0, *_ENDS)

    def _weight(self, node: Node, named: Node, rows: Tensor, scale: Node) -> Node:
        """The weight (out, ...) that codes of this shape mean, each row by its own scale."""
        parts = {
            "rows": rows.contiguous(),
            "scales": self._tensor(scale).clone(),
            "zeros": torch.zeros(len(rows), dtype=torch.int64),
        }
        read = [constant(self.module, f"{named.target}_{name}", part, before=node) for name, part in parts.items()]
        return self.call(theirs.dequantize_per_channel.default, *read, 0, *_ENDS)

    def _bias(self, node: Node, bias: Node | None, weight_scale: Node, x_scale: float) -> Node | None:
        """The bias in floats, of which XNNPACK makes the same whole numbers again."""
        if bias is None or self._tensor(bias).is_floating_point():
            return bias
        value = self._tensor(bias) * (self._tensor(weight_scale) * x_scale)
        return constant(self.module, f"{bias.target}_floats", value, before=node)

    def _tensor(self, node: Node) -> Tensor:
        value = tensor(self.module, node)
        assert value is not None
        return value.detach()

    def share_scales(self) -> None:
        """Round what an operator of one scale reads to the codes that it gives; that is what its result becomes."""
        for node in list(self.module.graph.nodes):
            user = only_user(node) if node.target in _OF_ONE_SCALE else None
            if user is not None and user.target is _QUANTIZE:
                self._recode(node, user.args[1:])

    def _recode(self, node: Node, code: Code) -> None:
        for x in node.all_input_nodes:
            if x.target is _DEQUANTIZE and x.args[1:] != code:
                with self.module.graph.inserting_before(node):
                    node.replace_input_with(x, self._coded(x, code))

    def part_readers(self) -> None:
        """Give each reader of codes a node of its own: XNNPACK takes one for coded or for floats as a whole."""
        for node in [node for node in self.module.graph.nodes if node.target is _DEQUANTIZE]:
            for user in list(node.users)[1:]:
                with self.module.graph.inserting_before(user):
                    user.replace_input_with(node, self.call(_DEQUANTIZE, *node.args))


def _ends(x: Node) -> list[float]:
    """The least and the largest number that codes of this activation mean, but for zero, which any range has."""
    scale, zero_point = cast(tuple[float, int], x.args[1:3])
    return [(code - zero_point) * scale for code in _ENDS[:2] if code != zero_point]


def _becomes_codes(node: Node) -> bool:
    """Whether what the operator makes becomes codes at once, or behind a clamp that its kernel does too."""
    user = only_user(node)
    if user is not None and user.target in _CLAMPS:
        user = only_user(user)
    return user is not None and user.target is ours.quantize.default


_RULES: Mapping[object, Callable[..., Node]] = {
    ours.quantize.default: _Writing.quantize,
    ours.clip.default: _Writing.clip,
    ours.convolution.default: _Writing.convolution,
    ours.linear.default: _Writing.linear,
    ours.dynamic_linear.default: _Writing.dynamic_linear,
    ours.add.default: _Writing.add,
    ours.multiply.default: _Writing.multiply,
    ours.hard_sigmoid.default: _Writing.hard_sigmoid,
    ours.average.default: _Writing.average,
}
