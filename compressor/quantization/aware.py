"""A network in training that computes as its quantized self will, with gradients.

It is the graph that is deployed, over the same parameters, with a fake quantizer behind each weight and each activation
that gets codes. Batch normalization needs no folding for it: a kernel multiplies the codes of a channel by one number
that has the normalization's factor in it, and the codes are the same with the factor and without.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torch.fx import GraphModule, Node

from compressor.freezing import Normalization
from compressor.quantization.graph import aten, sites
from compressor.quantization.integers import WeightCodes
from compressor.quantization.learned import ActivationStep, WeightStep
from compressor.quantization.odd import WeightSign, WeightTanh
from compressor.quantization.plan import ActivationCode
from compressor.quantization.products import ceiling, natural_range
from compressor.quantization.soft_rounding import SoftRounding

#: What rounds a weight, and knows its codes.
Rounder = WeightStep | WeightSign | WeightTanh | SoftRounding
#: From the code of an activation and the largest value that it can have to what rounds it.
Rounding = Callable[[ActivationCode, float], ActivationStep]
#: Under which name the graph has what is put into it.
_PARTS = "fake_quantization"


@dataclass(frozen=True, eq=False)
class Aware:
    """A network that can be trained in the candidate's place."""

    #: It has the candidate's parameters under their names.
    network: GraphModule
    #: By parameter name.
    weights: Mapping[str, Rounder]
    #: By site.
    activations: Mapping[str, ActivationStep]

    def weight_codes(self) -> dict[str, WeightCodes]:
        """The codes that weights have now."""
        return {name: step.codes(self.network.get_parameter(name)) for name, step in self.weights.items()}

    def activation_codes(self) -> dict[str, ActivationCode]:
        """The codes that activations have now."""
        return {site: step.code for site, step in self.activations.items()}


def learned_step(code: ActivationCode, ceiling: float) -> ActivationStep:
    """Codes that learn their step."""
    return ActivationStep(code, learns=True, ceiling=ceiling)


def made_aware(
    graph: GraphModule,
    weights: Mapping[str, Rounder],
    activations: Mapping[str, ActivationCode],
    *,
    rounding: Rounding = learned_step,
) -> Aware:
    """A captured graph, rewritten in place, that rounds weights by parameter name and activations by site.

    `rounding` is for activations whose range is not their operator's alone.
    """
    places = {site: node for node, site in sites(graph).items() if site in activations}
    steps = {site: _rounding_at(node, activations[site], rounding) for site, node in places.items()}
    parts = _Parts(graph)
    for name, weight in weights.items():
        readers = [node for node in graph.graph.nodes if node.op == "get_attr" and node.target == name]
        parts.behind(readers, weight)
    for site, step in steps.items():
        parts.behind([places[site]], step)
    for node in [n for n in graph.graph.nodes if n.target is aten.batch_norm.default and n.args[3] is not None]:
        parts.instead(node, Normalization(), (*node.args[:5], *node.args[6:8]))
    graph.recompile()
    return Aware(graph, weights, steps)


def _rounding_at(node: Node, code: ActivationCode, rounding: Rounding) -> ActivationStep:
    """What rounds what the node makes; the step of a gate is its operator's, and nobody else's to choose."""
    if natural_range(node) is not None:
        return ActivationStep(code, learns=False, ceiling=ceiling(node))
    return rounding(code, ceiling(node))


class _Parts:
    """Modules that are put into a graph."""

    def __init__(self, graph: GraphModule) -> None:
        self._graph, self._list = graph, nn.ModuleList()
        graph.add_submodule(_PARTS, self._list)

    def behind(self, nodes: Iterable[Node], part: nn.Module) -> None:
        """Let all that reads one of the nodes read what the part makes of it."""
        target = self._add(part)
        for node in nodes:
            with self._graph.graph.inserting_after(node):
                new = self._graph.graph.call_module(target, (node,))
            node.replace_all_uses_with(new, delete_user_cb=partial(operator.is_not, new))

    def instead(self, node: Node, part: nn.Module, args: tuple[Any, ...]) -> None:
        """Let the part do what the node did."""
        with self._graph.graph.inserting_before(node):
            new = self._graph.graph.call_module(self._add(part), args)
        node.replace_all_uses_with(new)
        self._graph.graph.erase_node(node)

    def _add(self, part: nn.Module) -> str:
        self._list.append(part)
        return f"{_PARTS}.{len(self._list) - 1}"
