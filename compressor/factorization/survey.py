"""Which layers can be factorized, what each is given, and why the others are left alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressor.candidate import Candidate
from compressor.inputs import Seeing
from compressor.layers import weighted_modules
from compressor.measure.counting import evaluating
from compressor.models.parts import Convolution, Dense, told


@dataclass(frozen=True)
class Layer:
    """A layer that can be factorized."""

    module: Seeing
    part: Convolution | Dense
    #: Of its input for one image, once for each time that it runs.
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Survey:
    """The layers among some, by name."""

    layers: Mapping[str, Layer]
    #: A reason for each of the others.
    left: Mapping[str, str]

    @property
    def modules(self) -> dict[str, Seeing]:
        """The layers themselves."""
        return {name: layer.module for name, layer in self.layers.items()}


def survey(candidate: Candidate, names: Sequence[str]) -> Survey:
    """Look at the layers of these names while the network runs once."""
    modules = weighted_modules(candidate.module)
    reasons = {name: reason for name in names if (reason := _against(candidate, name, modules[name])) is not None}
    runs = _run(candidate, {name: modules[name] for name in names if name not in reasons})
    layers = {}
    for name, shapes in runs.shapes.items():
        module, part = modules[name], told(modules[name])
        if not shapes:
            reasons[name] = "the network does not run it as a layer"
        elif name in runs.read:
            reasons[name] = "other modules read its weight"
        elif isinstance(module, nn.Linear | nn.Conv2d) and isinstance(part, Convolution | Dense):
            layers[name] = Layer(module, part, tuple(shapes))
    return Survey(layers, {name: reasons[name] for name in names if name in reasons})


def _against(candidate: Candidate, name: str, layer: nn.Module) -> str | None:
    """What can be said against a layer without running it."""
    if type(layer) not in (nn.Conv2d, nn.Linear):
        return f"it is a {type(layer).__name__}, neither a convolution in two dimensions nor linear"
    part, parameter = told(layer), layer.get_parameter("weight")
    weight = f"{name}.weight".removeprefix(".")
    if part is None:
        return "its padding is not a number of zeros"
    if isinstance(part, Convolution) and part.groups > 1:
        return "its channels are in groups"
    if weight in candidate.masks:
        return "its weights are masked"
    if weight in candidate.plan.weights:
        return "its weights have their codes"
    if not parameter.any():
        return "its weights are all zero"
    if _owners(candidate.module)[id(parameter)] > 1:
        return "its weight stands in several places"
    return None if name else "it is the whole network"


def _owners(module: nn.Module) -> Counter[int]:
    """How many names each parameter has, by its identity."""
    return Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))


@dataclass(frozen=True)
class _Runs:
    """What happens to layers in one run."""

    shapes: Mapping[str, list[tuple[int, ...]]]
    #: Layers whose weights something beside them has looked at.
    read: frozenset[str]


class _Watch(TorchFunctionMode):
    """Notes who is read while it does not run."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = {id(layer.weight): name for name, layer in layers.items()}
        self.running = ""
        self.read: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = {self.names[id(leaf)] for leaf in tree_leaves((args, kwargs)) if id(leaf) in self.names}
        self.read |= given - {self.running}
        return func(*args, **(kwargs or {}))


def _run(candidate: Candidate, layers: Mapping[str, nn.Module]) -> _Runs:
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in layers}
    watch = _Watch(layers)
    where = next(candidate.module.parameters()).device
    with evaluating(candidate.module), _telling(layers, watch, shapes), watch:
        candidate.module(torch.zeros(1, *candidate.input_shape, device=where))
    return _Runs(shapes, frozenset(watch.read))


@contextmanager
def _telling(
    layers: Mapping[str, nn.Module], watch: _Watch, shapes: Mapping[str, list[tuple[int, ...]]]
) -> Iterator[None]:
    def begin(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            shapes[name].append(tuple(args[0].shape))
            watch.running = name

        return hook

    def end(*_: object) -> None:
        watch.running = ""

    handles = [layer.register_forward_pre_hook(begin(name)) for name, layer in layers.items()]
    handles += [layer.register_forward_hook(end) for layer in layers.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
