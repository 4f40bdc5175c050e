"""The units of a network: its residual blocks, and the layers that stand outside of any.

They are found in the captured graph. Where all that is still to be read is one activation, the network falls in two;
within a residual block there is no such place, since the shortcut is still to be read there.
"""

from collections.abc import Collection, Iterator
from itertools import pairwise

from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from compressor.quantization.graph import aten


def units(module: GraphModule, products: Collection[Node]) -> tuple[GraphModule, ...]:
    """Networks that make the module's one behind the other, each with one or more of the products, over its parts.

    What stands between two products without a place to part them, such as ReLU and pooling, goes with the first.
    """
    places = _narrow_places(module)
    starts: dict[Node, None] = {}
    for node in products:
        starts[[place for place in places if place < node][-1]] = None
    inner = [place for place in places if place in starts][1:]
    bounds = [places[0], *inner, places[-1]]
    return tuple(_between(module, start, end) for start, end in pairwise(bounds))


def _narrow_places(module: GraphModule) -> list[Node]:
    """The activations beside which no other one is still to be read when they are made, in their order."""
    places, unread = [], set[Node]()
    for node in _activations(module):
        unread = {one for one in unread if any(user > node for user in _readers(one))} | {node}
        if len(unread) == 1 and _is_tensor(node):
            places.append(node)
    return places


def _activations(module: GraphModule) -> Iterator[Node]:
    """What depends on the image, in the order in which it is made; sizes do not."""
    seen: set[Node] = set()
    for node in module.graph.nodes:
        depends = node.op == "placeholder" or any(source in seen for source in node.all_input_nodes)
        if depends and node.op != "output" and not _is_size(node):
            seen.add(node)
            yield node


def _readers(node: Node) -> list[Node]:
    return [user for user in node.users if not _is_size(user)]


def _is_size(node: Node) -> bool:
    return node.target is aten.sym_size.int


def _is_tensor(node: Node) -> bool:
    # Parts that were put into the graph have no example of what they give.
    return node.op == "call_module" or isinstance(node.meta.get("val"), Tensor)


def _between(module: GraphModule, start: Node, end: Node) -> GraphModule:
    """A network over the same parts that makes `end` of `start`."""
    needed = _needed(end, start)
    graph = Graph()
    made = {start: graph.placeholder("x")}
    for node in module.graph.nodes:
        if node not in needed:
            continue
        if _is_size(node) and node.args[0] not in made:
            # The only size that is not known is the batch's, and every activation between units has it.
            made[node] = graph.call_function(aten.sym_size.int, (made[start], node.args[1]))
        else:
            made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(made[end])
    return GraphModule(module, graph)


def _needed(end: Node, start: Node) -> set[Node]:
    """All that `end` is made of but `start`, and what that alone is made of."""
    needed, left = set[Node](), [end]
    while left:
        node = left.pop()
        if node not in needed and node is not start:
            needed.add(node)
            left.extend([] if _is_size(node) else node.all_input_nodes)
    return needed
