"""Parameters that one operator reads and no other, so that changing them changes nothing else."""

from collections import Counter

from torch import nn
from torch.fx import GraphModule, Node

from compressor.quantization.graph import tensor


def solitary(module: GraphModule, node: object) -> nn.Parameter | None:
    """The parameter that an argument reads, where nothing else in the graph reads it; null otherwise."""
    found = tensor(module, node) if isinstance(node, Node) and len(node.users) == 1 else None
    if not isinstance(found, nn.Parameter):
        return None
    # Two names may stand for one parameter.
    readers = Counter(id(tensor(module, other)) for other in module.graph.nodes if other.op == "get_attr")
    return found if readers[id(found)] == 1 else None
