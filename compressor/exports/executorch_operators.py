"""The quantized operators as the patterns that ExecuTorch's XNNPACK backend replaces by integer kernels.

XNNPACK has int8 where a plan has uint8: codes and zero points are both less 128, and mean the same numbers.
"""

from typing import cast

import torch.nn.functional as F
from torch.fx import GraphModule, Node

from compressor.exports import decomposed
from compressor.exports.decomposed import DEQUANTIZE, INT8, QUANTIZE, RULES, Code, Writer, ours
from compressor.quantization.graph import aten, only_user

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


def spell_out(module: GraphModule) -> None:
    """Write each of our operators in a realized graph as the pattern of its integer kernel."""
    decomposed.spell_out(module, INT8, {**RULES, ours.linear.default: _linear})
    writer = Writer(module, INT8)
    _share_scales(writer)
    _part_readers(writer)
    module.graph.eliminate_dead_code()
    module.recompile()


def _linear(
    writer: Writer, node: Node, x: Node, codes: Node, weight_scale: Node, bias: Node | None, x_scale: float
) -> Node:
    """XNNPACK has a kernel from codes to codes, and one to floats, which measures the range of its input itself.

    Before that one each row gets both ends of its codes' range, for weights of zero: so it measures the plan's.
    """
    rows = writer.value(codes).t()
    shift = writer.bias(node, bias, weight_scale, x_scale)
    if not _becomes_codes(node):
        ends = _ends(x)
        for end in ends:
            x = writer.call(aten.constant_pad_nd.default, x, [0, 1], end)
        x, rows = writer.coded_as_it_comes(x), F.pad(rows, (0, len(ends)))
    return writer.call(aten.linear.default, x, writer.weight(node, codes, rows, weight_scale), shift)


def _ends(x: Node) -> list[float]:
    """The least and the largest number that codes of this activation mean, but for zero, which any range has."""
    scale, zero_point = cast(tuple[float, int], x.args[1:3])
    return [(code - zero_point) * scale for code in (INT8.least, INT8.largest) if code != zero_point]


def _becomes_codes(node: Node) -> bool:
    """Whether what the operator makes becomes codes at once, or behind a clamp that its kernel does too."""
    user = only_user(node)
    if user is not None and user.target in _CLAMPS:
        user = only_user(user)
    return user is not None and user.target is ours.quantize.default


def _share_scales(writer: Writer) -> None:
    """Round what an operator of one scale reads to the codes that it gives; that is what its result becomes."""
    for node in list(writer.module.graph.nodes):
        user = only_user(node) if node.target in _OF_ONE_SCALE else None
        if user is not None and user.target is QUANTIZE:
            _recode(writer, node, user.args[1:])


def _recode(writer: Writer, node: Node, code: Code) -> None:
    for x in node.all_input_nodes:
        if x.target is DEQUANTIZE and x.args[1:] != code:
            with writer.module.graph.inserting_before(node):
                node.replace_input_with(x, writer.coded(x, code))


def _part_readers(writer: Writer) -> None:
    """Give each reader of codes a node of its own: XNNPACK takes one for coded or for floats as a whole."""
    for node in [node for node in writer.module.graph.nodes if node.target is DEQUANTIZE]:
        for user in list(node.users)[1:]:
            with writer.module.graph.inserting_before(user):
                user.replace_input_with(node, writer.call(DEQUANTIZE, *node.args))
