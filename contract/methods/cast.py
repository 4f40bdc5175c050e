"""Casting: floats of 16 bits in the file, float32 in the arithmetic."""

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.params import Params, Patterns, Stage


class HalfType(StrEnum):
    """A floating-point type of 16 bits."""

    #: IEEE 754 binary16: 11 significant bits, from 6e-8 to 65,504.
    FLOAT16 = "float16"
    #: The upper half of a float32: 8 significant bits, its range.
    BFLOAT16 = "bfloat16"


class Cast(Params):
    """Stores the parameters of layers as float16 or bfloat16, and computes with them in float32."""

    method: Literal["cast"] = "cast"
    stage: ClassVar[Stage] = Stage.PRECISION
    takes_the_rest: ClassVar[bool] = True

    to: HalfType = Field(
        default=HalfType.FLOAT16,
        description="float16 has 11 significant bits and ends at 65,504; bfloat16 has 8, and the range of float32.",
    )
    include: Patterns = Field(
        default=("*",),
        description="Globs over the names of the modules to cast, biases and normalizations among them; all means all "
        "that earlier steps have left.",
    )
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float32.")
