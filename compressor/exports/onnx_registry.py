"""What torch's exporter does anew for every network, done once or left out.

It reads the source and the signatures of five hundred translations: of a small network's export that is four tenths,
and a job writes two networks or more. And it runs a program again, by fake tensors, to decompose what it has no
translation for: another half, of most image networks for nothing.
"""

import operator
from functools import cache

from torch import ops
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Graph, Node
from torch.onnx._internal._lazy_import import onnxscript_apis  # type: ignore[attr-defined]
from torch.onnx._internal.exporter import _fx_passes, _schemas
from torch.onnx._internal.exporter._registration import ONNXRegistry

_decompose = _fx_passes.decompose_with_registry


@cache
def prepare() -> None:
    """Let all exports of this process be spared that."""
    onnxscript_apis.get_torchlib_ops = cache(onnxscript_apis.get_torchlib_ops)
    _schemas.op_signature_from_function = cache(_schemas.op_signature_from_function)
    _fx_passes.decompose_with_registry = _decompose_where_needed


def _decompose_where_needed(exported_program: ExportedProgram, registry: ONNXRegistry) -> ExportedProgram:
    _write_means(exported_program.graph)
    if all(_is_translated(node, registry) for node in exported_program.graph.nodes):
        return exported_program
    return _decompose(exported_program, registry)


def _write_means(graph: Graph) -> None:
    """Write a pooling to one pixel as the mean to which torch decomposes it."""
    for node in graph.nodes:
        if node.target is ops.aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            node.target, node.args = ops.aten.mean.dim, (node.args[0], [-1, -2], True)


def _is_translated(node: Node, registry: ONNXRegistry) -> bool:
    target = node.target
    if node.op != "call_function" or target is operator.getitem:
        return True
    if isinstance(target, str) or (isinstance(target, OpOverload) and target._schema.is_mutable):
        return False
    if target is ops.aten.batch_norm.default and not _knows_its_statistics(node):
        return False
    return registry.is_registered(target)


def _knows_its_statistics(node: Node) -> bool:
    _, _, _, mean, variance, training, *_ = node.args
    return mean is not None and variance is not None and not training
