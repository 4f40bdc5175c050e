"""Weights as codes or halves within a network's graph, for files that store them so: widened where they are used."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

import compressor.quantization.operators  # noqa: F401  (registers the operators)
from compressor.quantization.graph import constant, parameter_name
from compressor.quantization.halves import Halves
from compressor.quantization.integers import WeightCodes
from compressor.quantization.levels import LevelCodes
from compressor.quantization.plan import QuantizationPlan, Stored

ours = torch.ops.modelpress


def decode(module: GraphModule, plan: QuantizationPlan) -> None:
    """Let a captured graph read the codes or halves of every weight of the plan whose numbers it still reads."""
    for node in list(module.graph.nodes):
        name = parameter_name(node)
        if name is not None and name in plan.weights and node.users:
            _decode(module, node, plan.weights[name])
    module.graph.eliminate_dead_code()
    module.recompile()


def _decode(module: GraphModule, node: Node, weight: Stored) -> None:
    stem, reader = str(node.target).removesuffix(".weight"), node.next
    operator, parts, how = _decoder(weight)
    constants = [p if p is None else constant(module, f"{stem}_{end}", p, before=reader) for end, p in parts.items()]
    with module.graph.inserting_before(reader):
        new = module.graph.call_function(operator, (*constants, *how))
    new.meta["val"] = node.meta.get("val")
    node.replace_all_uses_with(new)


#: An operator, the tensors that it is given by the ends of their names, and the arguments behind them.
_Decoder = tuple[OpOverload, Mapping[str, Tensor | None], tuple[int | list[int], ...]]


def _decoder(weight: Stored) -> _Decoder:
    match weight:
        case WeightCodes():
            return _integers(weight)
        case LevelCodes():
            return _levels(weight)
        case Halves():
            return ours.widen.default, {"half": weight.values}, ()


def _integers(weight: WeightCodes) -> _Decoder:
    by_channel = weight.scale.expand(weight.codes.shape[0]).contiguous()
    return ours.dequantize.default, {"codes": weight.codes, "scale": by_channel}, (0,)


def _levels(weight: LevelCodes) -> _Decoder:
    """Codes by group (channels, groups, columns of a group), the last group filled up."""
    rows = weight.codes.flatten(1)
    size = weight.group or rows.shape[1]
    blocks = F.pad(rows, (0, -rows.shape[1] % size)).view(rows.shape[0], -1, size)
    scale, zero = (None if part is None else part.float().unsqueeze(2) for part in (weight.scale, weight.zero))
    parts = {"codes": blocks, "levels": weight.levels, "scale": scale, "zero": zero}
    return ours.decode.default, parts, (list(weight.codes.shape),)
