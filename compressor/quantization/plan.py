"""What quantization will do to each layer: codes, scales and ranges, beside a module that stays float."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from pydantic import Field
from torch import Tensor

from compressor.quantization.halves import Halves, holds
from compressor.quantization.integers import WeightCodes
from compressor.quantization.levels import LevelCodes, levels_of
from contract.methods.cast import HalfType
from contract.methods.low_bit import Scheme
from contract.value import Value

#: Ends of the names under which the tensors of a weight's codes are stored.
CODES, SCALE, ZERO, LEVELS = "#codes", "#scale", "#zero", "#levels"
#: A parameter in a form that takes fewer bits than float32.
Stored = WeightCodes | LevelCodes | Halves

#: The largest code of eight bits.
TOP = 255


class ActivationCode(Value):
    """How an activation becomes uint8: `code = clamp(round(x / scale) + zero_point, 0, top)`."""

    scale: float
    zero_point: int
    #: Whether a file has int8, code and zero point both less 128. The values that codes stand for are the same.
    signed: bool = False
    #: The largest code: 2**bits - 1.
    top: int = TOP


class WeightLayout(Value):
    """What must be known beside the tensors to read a weight's integers."""

    axis: int | None
    bits: int


class LevelLayout(Value):
    """What must be known beside the tensors to read codes of levels."""

    scheme: Scheme
    bits: int
    group: int | None
    #: Whether pruned weights have put a zero among the scheme's levels.
    pruned: bool


class PlanDocument(Value):
    """A plan without its tensors, as it is written in model.json."""

    weights: dict[str, WeightLayout] = Field(default_factory=dict)
    levels: dict[str, LevelLayout] = Field(default_factory=dict)
    #: Parameters that are stored in 16 bits, under their own names.
    halves: dict[str, HalfType] = Field(default_factory=dict)
    activations: dict[str, ActivationCode] = Field(default_factory=dict)
    dynamic: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class QuantizationPlan:
    """Which numbers become codes or halves, and how.

    The module's parameters named in `weights` hold exactly what their codes or halves mean, so a file needs to store
    these alone. What a plan means for activations is computed by `compressor.quantization.simulate.simulated`.
    """

    #: By parameter name, such as `layer1.0.conv1.weight`.
    weights: Mapping[str, Stored] = field(default_factory=dict)
    #: By site: the place in the network's graph that makes the activation, such as `layer1.0.conv1/conv2d`.
    activations: Mapping[str, ActivationCode] = field(default_factory=dict)
    #: Names of those parameters of `weights` whose layer quantizes its input as it comes.
    dynamic: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether nothing is quantized."""
        return not self.weights

    @property
    def rounds_activations(self) -> bool:
        """Whether anything but weights is quantized, so that answers come in steps."""
        return bool(self.activations or self.dynamic)

    @property
    def layers(self) -> frozenset[str]:
        """Names of the modules whose weights have codes or halves."""
        return frozenset(name.rpartition(".")[0] for name in self.weights)

    @cached_property
    def integers(self) -> Mapping[str, WeightCodes]:
        """Those weights that integer kernels can multiply."""
        found = {n: w if isinstance(w, WeightCodes) else w.integers for n, w in self.weights.items()}
        return {name: weight for name, weight in found.items() if weight is not None}

    @property
    def levels(self) -> Mapping[str, LevelCodes]:
        """Those that have codes for the sake of the file."""
        return {name: weight for name, weight in self.weights.items() if isinstance(weight, LevelCodes)}

    @cached_property
    def static(self) -> frozenset[str]:
        """Names of those that integer kernels multiply with activations whose ranges were measured."""
        return self.static_with(()) if self.activations else frozenset()

    def static_with(self, names: Iterable[str]) -> frozenset[str]:
        """The same once activations are quantized, and the weights of these names have integers too."""
        return (frozenset(self.integers) - self.dynamic).union(names)

    def bits(self, parameter: str) -> int:
        """Bits of a stored number of this parameter."""
        return self.weights[parameter].bits if parameter in self.weights else 32

    def document(self) -> PlanDocument:
        """The part of the plan that is written as JSON."""
        ordered = sorted(self.weights.items())
        return PlanDocument(
            weights={n: WeightLayout(axis=w.axis, bits=w.bits) for n, w in ordered if isinstance(w, WeightCodes)},
            levels={name: _layout(weight) for name, weight in sorted(self.levels.items())},
            halves={n: w.kind for n, w in ordered if isinstance(w, Halves)},
            activations=dict(sorted(self.activations.items())),
            dynamic=tuple(sorted(self.dynamic)),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The part of the plan that is written as tensors.

        `NAME#codes` (int8, or uint8 for levels), and where there are any `NAME#scale`, `NAME#zero` and `NAME#levels`;
        `NAME` of halves.
        """
        return tensors_of(self.weights)

    def with_weights(self, weights: Mapping[str, Stored]) -> "QuantizationPlan":
        """The plan with these weights beside the ones that it has, or in their place."""
        return replace(self, weights={**self.weights, **weights})


def _layout(weight: LevelCodes) -> LevelLayout:
    return LevelLayout(
        scheme=weight.scheme, bits=weight.bits, group=weight.group, pruned=bool((weight.levels == 0).any())
    )


def tensors_of(weights: Mapping[str, Stored]) -> dict[str, Tensor]:
    """The tensors of all these weights, by parameter name and what they are."""
    return {name + end: tensor for name, weight in weights.items() for end, tensor in _parts(weight).items()}


def _parts(weight: Stored) -> dict[str, Tensor]:
    """The tensors of one weight, by the ends of their names."""
    if isinstance(weight, Halves):
        return {"": weight.values}
    if isinstance(weight, WeightCodes):
        return {CODES: weight.codes, SCALE: weight.scale}
    learned = weight.levels if weight.scheme is Scheme.CODEBOOK else None
    parts = {CODES: weight.codes, SCALE: weight.scale, ZERO: weight.zero, LEVELS: learned}
    return {end: tensor for end, tensor in parts.items() if tensor is not None}


def restored(document: PlanDocument, tensors: Mapping[str, Tensor]) -> QuantizationPlan:
    """The plan of which `document` and `tensors` were written; raises KeyError where a tensor is missing."""
    integers: dict[str, Stored] = {
        name: WeightCodes(tensors[name + CODES], tensors[name + SCALE], axis=layout.axis, bits=layout.bits)
        for name, layout in document.weights.items()
    }
    levels = {name: _of_levels(name, layout, tensors) for name, layout in document.levels.items()}
    halves = {name: _of_halves(name, kind, tensors) for name, kind in document.halves.items()}
    return QuantizationPlan(integers | levels | halves, document.activations, frozenset(document.dynamic))


def _of_halves(name: str, kind: HalfType, tensors: Mapping[str, Tensor]) -> Halves:
    if not holds(tensors[name], kind):
        raise KeyError(f"{name} is not stored as {kind}")
    return Halves(kind, tensors[name])


def _of_levels(name: str, layout: LevelLayout, tensors: Mapping[str, Tensor]) -> LevelCodes:
    learned = layout.scheme is Scheme.CODEBOOK
    levels = tensors[name + LEVELS] if learned else levels_of(layout.scheme, layout.bits, pruned=layout.pruned)
    empty = LevelCodes(layout.scheme, layout.bits, tensors[name + CODES], levels, group=layout.group)
    return codes_from(name, empty, tensors)


def codes_from(name: str, like: LevelCodes, tensors: Mapping[str, Tensor]) -> LevelCodes:
    """The codes of the weight of this name, of the form of others; raises KeyError where there are none."""
    return replace(
        like,
        codes=tensors[name + CODES],
        levels=tensors.get(name + LEVELS, like.levels),
        scale=tensors.get(name + SCALE),
        zero=tensors.get(name + ZERO),
    )
