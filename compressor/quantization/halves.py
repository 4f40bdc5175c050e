"""Parameters as floats of 16 bits: stored in half the bytes, widened to float32 to be computed with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.quantization.integers import WeightCodes
from contract.methods.cast import HalfType

#: How torch calls the types.
_TYPES = {HalfType.FLOAT16: torch.float16, HalfType.BFLOAT16: torch.bfloat16}
_BITS = 16


@dataclass(frozen=True, eq=False)
class Halves:
    """A parameter of any shape in 16 bits."""

    kind: HalfType
    #: float16 or bfloat16.
    values: Tensor

    @property
    def bits(self) -> int:
        """Of a stored number."""
        return _BITS

    @property
    def integers(self) -> WeightCodes | None:
        """The form that integer kernels multiply: none."""
        return None

    @property
    def finite(self) -> bool:
        """Whether the type could hold every number."""
        return bool(self.values.isfinite().all())

    def dequantized(self) -> Tensor:
        """The float32 parameter that the halves mean."""
        return self.values.float()


def halves_of(parameter: Tensor, kind: HalfType) -> Halves:
    """The nearest numbers that the type has; infinite where they lie beyond its largest."""
    return Halves(kind, parameter.detach().cpu().to(_TYPES[kind]))


def holds(values: Tensor, kind: HalfType) -> bool:
    """Whether a stored tensor is of this type."""
    return values.dtype is _TYPES[kind]


def largest(kind: HalfType) -> float:
    """The largest number that the type has."""
    return torch.finfo(_TYPES[kind]).max
