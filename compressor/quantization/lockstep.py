"""A network and its quantized self, run side by side on the same images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from compressor.quantization.operators import clip, quantize
from compressor.quantization.plan import TOP, ActivationCode


@dataclass(frozen=True, eq=False)
class Pair:
    """What an operator gives in the float network, and in the quantized one; the same object where nothing differs."""

    exact: Any
    coded: Any


#: Sees an operator's first input and its result as they are made, and says what the result shall be.
Mend = Callable[["Lockstep", Pair, Pair], Pair]
#: Sees an activation as it is handed on, its coded side coded.
See = Callable[[Pair], None]


class Lockstep(Interpreter):
    """Runs a captured graph twice at once: as it is, and with other parameters and coded activations.

    A layer can thus be seen, and mended, with all layers before it as they will be, and no activation is kept longer
    than it is read. Codes are rounded as if sums were exact, which is within a step of what integer kernels give.
    """

    def __init__(
        self, module: GraphModule, *, codes: Mapping[Node, ActivationCode], parameters: Mapping[str, Tensor],
        mends: Mapping[Node, Mend], sees: Mapping[Node, See] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(module)
        self._graph_module = module
        self._codes, self._mends, self._sees = codes, mends, sees or {}
        #: Of the quantized network, by name, where they are other ones. Mending puts some in.
        self.parameters = dict(parameters)

    @property
    def graph_module(self) -> GraphModule:
        """The network as it is."""
        return self._graph_module

    def answers(self, batch: Tensor) -> Pair:
        """The logits of both for a batch (N, C, H, W)."""
        with torch.no_grad():
            logits = self.run(batch)
        assert isinstance(logits, Pair)
        return logits

    def run_node(self, n: Node) -> Any:
        """Both values of one operator."""
        if n.op == "output":
            return tuple(self.env[source] for source in n.all_input_nodes)
        made = self._made(n)
        if n in self._mends:
            made = self._mends[n](self, self.env[n.all_input_nodes[0]], made)
        if n in self._codes:
            code = self._codes[n]
            coded = quantize(made.coded, code.scale, code.zero_point)
            # Eight bits saturate by themselves.
            full = code.top == TOP
            made = Pair(made.exact, coded if full else clip(coded, code.scale, code.zero_point, code.top))
        if n in self._sees:
            self._sees[n](made)
        return made

    def _made(self, node: Node) -> Pair:
        if node.op != "call_function":
            own = super().run_node(node)
            return Pair(own, own)
        exact = self._called(node, lambda source: self.env[source].exact)
        same = all(self.env[source].exact is self._coded(source) for source in node.all_input_nodes)
        return Pair(exact, exact if same else self.again(node))

    def _coded(self, node: Node) -> Any:
        """What the quantized network reads; parameters as they are now, not as they were when the run began."""
        own = self.env[node].coded
        return self.parameters.get(str(node.target), own) if node.op == "get_attr" else own

    def _called(self, node: Node, side: Callable[[Node], Any]) -> Any:
        args, kwargs = (map_arg(given, side) for given in (node.args, node.kwargs))
        return self.call_function(node.target, args, kwargs)  # type: ignore[arg-type]

    def again(self, node: Node) -> Any:
        """What an operator gives in the quantized network with the parameters as they are now."""
        return self._called(node, self._coded)

    def parameter(self, name: str) -> Tensor:
        """What the quantized network reads under this name."""
        return self.parameters[name] if name in self.parameters else self.graph_module.get_parameter(name).detach()
