"""What quantization will do to each layer: codes, scales and ranges, beside a module that stays float."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from contract.value import Value

#: Ends of the names under which the tensors of a weight's codes are stored.
CODES, SCALE = "#codes", "#scale"


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """A weight as integers: `weight = codes * scale`, symmetric, so that a zero stays exactly zero."""

    #: int8, of the weight's shape.
    codes: Tensor
    #: float32; one for each slice along `axis`, or a single one of shape (1,).
    scale: Tensor
    #: The output channels' axis; null where one scale serves the whole tensor.
    axis: int | None = 0
    #: The codes lie within [-2**(bits - 1), 2**(bits - 1) - 1].
    bits: int = 8

    def dequantized(self) -> Tensor:
        """The float32 weight that the codes mean."""
        shape = [1] * self.codes.dim()
        if self.axis is not None:
            shape[self.axis] = -1
        return self.codes.to(torch.float32) * self.scale.reshape(shape)


class ActivationCode(Value):
    """How an activation becomes uint8: `code = clamp(round(x / scale) + zero_point, 0, 255)`."""

    scale: float
    zero_point: int
    #: Whether a file has int8, code and zero point both less 128. The values that codes stand for are the same.
    signed: bool = False


class WeightLayout(Value):
    """What must be known beside the tensors to read a weight's codes."""

    axis: int | None
    bits: int


class PlanDocument(Value):
    """A plan without its tensors, as it is written in model.json."""

    weights: dict[str, WeightLayout] = Field(default_factory=dict)
    activations: dict[str, ActivationCode] = Field(default_factory=dict)
    dynamic: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class QuantizationPlan:
    """Which numbers become integers, and how.

    The module's parameters named in `weights` hold exactly the dequantized codes, so a file needs to store the codes
    alone. Everything that a plan means is computed by `compressor.quantization.simulate.simulated`.
    """

    #: By parameter name, such as `layer1.0.conv1.weight`.
    weights: Mapping[str, WeightCodes] = field(default_factory=dict)
    #: By site: the place in the network's graph that makes the activation, such as `layer1.0.conv1/conv2d`.
    activations: Mapping[str, ActivationCode] = field(default_factory=dict)
    #: Names of those parameters of `weights` whose layer quantizes its input as it comes.
    dynamic: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether nothing is quantized."""
        return not self.weights

    @property
    def layers(self) -> frozenset[str]:
        """Names of the modules whose weights have codes."""
        return frozenset(name.rpartition(".")[0] for name in self.weights)

    def bits(self, parameter: str) -> int:
        """Bits of a stored number of this parameter."""
        return self.weights[parameter].bits if parameter in self.weights else 32

    @property
    def scheme(self) -> Literal["float32", "dynamic", "static"]:
        """What the plan as a whole does with activations."""
        if self.empty:
            return "float32"
        return "static" if self.activations else "dynamic"

    def document(self) -> PlanDocument:
        """The part of the plan that is written as JSON."""
        return PlanDocument(
            weights={name: WeightLayout(axis=w.axis, bits=w.bits) for name, w in sorted(self.weights.items())},
            activations=dict(sorted(self.activations.items())),
            dynamic=tuple(sorted(self.dynamic)),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The part of the plan that is written as tensors: `NAME#codes` (int8) and `NAME#scale` (float32)."""
        codes = {name + CODES: w.codes for name, w in self.weights.items()}
        return codes | {name + SCALE: w.scale for name, w in self.weights.items()}


def restored(document: PlanDocument, tensors: Mapping[str, Tensor]) -> QuantizationPlan:
    """The plan of which `document` and `tensors` were written; raises KeyError where a tensor is missing."""
    weights = {
        name: WeightCodes(tensors[name + CODES], tensors[name + SCALE], axis=layout.axis, bits=layout.bits)
        for name, layout in document.weights.items()
    }
    return QuantizationPlan(weights, document.activations, frozenset(document.dynamic))
