"""Activations that cost less in the place of those that are there.

Hard swish and hard sigmoid: Howard et al. 2019, Searching for MobileNetV3 (arXiv:1905.02244), section 5.2.
"""

from collections import Counter
from collections.abc import Collection
from typing import cast, get_args

from torch import nn

from compressor.inputs import ran
from compressor.lightening.network import Network
from compressor.models.edits import Replace
from compressor.models.parts import Activation
from compressor.quantization.graph import exported
from contract.failures import UnfitModel
from contract.methods.lighten import ActivationName

_NAMES: frozenset[str] = frozenset(get_args(ActivationName))


def name_of(part: nn.Module) -> ActivationName | None:
    """Which activation a module is, torch's own or timm's of the same name; either form of GELU is one."""
    name = type(part).__name__.lower()
    plain = name in _NAMES and not any(part.children())
    return cast("ActivationName", name) if plain else None


def check_activations(module: nn.Module, wanted: Collection[ActivationName]) -> None:
    """Raise `UnfitModel` where one that shall be replaced is not there, and say what is."""
    there = Counter(filter(None, map(name_of, module.modules())))
    missing = next((name for name in wanted if name not in there), None)
    if missing is not None:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(there.items()))
        raise UnfitModel(
            f"No module of the model is a {missing}; its modules are {listed or 'none of the kind'}, and what forward "
            "methods compute themselves cannot be replaced.",
            pointer="/activations",
        )


def replace_activations(network: Network) -> dict[str, ActivationName]:
    """Replace the modules that are run; returns which activation each of them was, by name."""
    asked = network.params.activations
    # A module that the network knows by two names is replaced under both.
    parts = network.module.named_modules(remove_duplicate=False)
    named = {name: name_of(part) for name, part in parts if network.may_change(name)}
    old = {name: kind for name, kind in named.items() if kind in asked}
    found = {name: kind for name in ran(network.module, old, network.input_shape) if (kind := old[name]) is not None}
    network.do(*(Replace(module=name, parts=(Activation(name=asked[kind]),)) for name, kind in found.items()))
    return found


def functional(network: Network) -> dict[str, int]:
    """How often activations that should have been replaced are computed by a forward method itself, by their names."""
    graph = exported(network.module, network.input_shape).graph
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        kind = str(getattr(node.target, "overloadpacket", "")).removeprefix("aten.").removesuffix("_")
        path = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        within = path[-1] if path else ""
        if kind in network.params.activations and name_of(network.module.get_submodule(within)) != kind:
            counts[kind] += 1
    return dict(counts)
