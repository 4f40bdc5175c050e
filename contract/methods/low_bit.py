"""Low-bit storage: weights as codes of few levels, activations left as they are."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Recovery, Role, Stage

Bits = Annotated[int, Field(ge=1, le=8)]


class Scheme(StrEnum):
    """Which numbers the codes of a weight can mean, each times a scale."""

    #: Whole numbers around zero, as many below as above.
    SYMMETRIC = "symmetric"
    #: Whole numbers from any first one on.
    ASYMMETRIC = "asymmetric"
    #: Zero, and powers of two with either sign.
    POWER_OF_TWO = "power_of_two"
    #: Levels that were learned from the weights of the layer.
    CODEBOOK = "codebook"
    #: -3, -1, 1, 3.
    FOUR_LEVEL = "four_level"
    #: -1, 0, 1.
    TERNARY = "ternary"
    #: -1, 1.
    BINARY = "binary"


#: Bits of the schemes that have a number of levels of their own.
_OWN_BITS = {Scheme.BINARY: 1, Scheme.TERNARY: 2, Scheme.FOUR_LEVEL: 2}
#: Bits below which a scheme has no level but zero.
_LEAST_BITS = {Scheme.SYMMETRIC: 2, Scheme.POWER_OF_TWO: 2}
#: What the first and the last layer get unless they are treated like all others.
ENDS = 8


def usual(bits: int) -> Scheme:
    """The scheme that serves so many bits well."""
    return {1: Scheme.BINARY, 2: Scheme.FOUR_LEVEL}.get(bits, Scheme.SYMMETRIC)


class QuantizeWeights(Params):
    """Stores weights in 1 to 8 bits; activations stay float32."""

    method: Literal["quantize_weights"] = "quantize_weights"
    stage: ClassVar[Stage] = Stage.STORAGE

    bits: Bits = Field(default=4, description="Bits of a weight.")
    scheme: Scheme = Field(
        default=Scheme.SYMMETRIC,
        description="Which numbers codes can mean, each times a scale: whole ones around zero or from any first one on "
        "(symmetric, asymmetric); zero and powers of two (Zhou et al. 2017); a codebook of each layer's own by k-means "
        "(Han et al. 2016); -3, -1, 1, 3 (four_level, 2 bits); -1, 0, 1 (ternary, 2 bits: Li et al. 2016); -1, 1 "
        "(binary, 1 bit: Rastegari et al. 2016). Where it is not given: symmetric, at 2 bits four_level, at 1 binary.",
    )
    group_size: int | None = Field(
        default=None,
        ge=4,
        le=65_536,
        description="Weights of an output channel that share a scale, counted along its inputs and kernel; null for "
        "one scale for each output channel. Not for codebook, whose levels have no scale.",
    )
    clipping: Literal["max", "least_squares"] = Field(
        default="least_squares",
        description="With symmetric and asymmetric: whether a scale spans all weights of its group, or cuts off the "
        "largest where that lets the sum of squared errors fall.",
    )
    rounding: Literal["nearest", "gptq"] = Field(
        default="nearest",
        description="Each weight to its nearest level, or one after the other, what is still to come making up for the "
        "error on calibration images, and for those of the layers before (GPTQ, Frantar et al. 2023; Li et al. 2025).",
    )
    bits_by_layer: dict[str, Bits] = Field(
        default_factory=dict,
        max_length=256,
        description="Bits of their own, by globs over the names of modules; the first that matches counts.",
    )
    target_bits: float | None = Field(
        default=None,
        ge=1,
        le=8,
        description="Bits of a weight on the average, scales and codebooks counted: each layer gets the bits with "
        "which all together answer most like the original on calibration images. Instead of bits and scheme.",
    )
    all_layers: bool = Field(
        default=False, description="Treat the first and the last layer like all others; else they get 8 bits."
    )
    training: Recovery | None = Field(
        default=None,
        description="Train the network while it computes with the codes, updates going straight through them to float "
        "weights behind (Courbariaux et al. 2015); scales and codebooks follow.",
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are used at most.")
    recalibrate: bool = Field(
        default=True,
        description="Measure the statistics of batch normalization anew behind it, where there is data; gptq leaves "
        "those to which it has fitted the layers.",
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to quantize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float.")

    @property
    def recipe(self) -> Recovery | None:
        """The training with codes in place."""
        return self.training

    @property
    def roles(self) -> frozenset[Role]:
        """Calibration data where answers or inputs of layers are looked at."""
        looks = self.rounding == "gptq" or self.target_bits is not None
        return super().roles | (frozenset({Role.CALIBRATION}) if looks else frozenset())

    def scheme_at(self, bits: int) -> Scheme:
        """The scheme of a layer with so many bits: the one that was asked for, where it can have them."""
        least = _LEAST_BITS.get(self.scheme, 1)
        return self.scheme if _OWN_BITS.get(self.scheme, max(bits, least)) == bits else usual(bits)

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "scheme" in given:
            return given
        bits = given.get("bits", 4)
        return given | {"scheme": usual(bits)} if isinstance(bits, int) and 1 <= bits <= 2 else given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.scheme_at(self.bits) is not self.scheme:
            needed = _OWN_BITS.get(self.scheme)
            told = f"has {needed} bits" if needed else f"needs at least {_LEAST_BITS[self.scheme]} bits"
            raise ValueError(f"scheme {self.scheme} {told}, and bits is {self.bits}")
        if self.scheme is Scheme.CODEBOOK and self.group_size is not None:
            raise ValueError("group_size parts scales, and scheme codebook has none")
        if self.target_bits is not None and self.bits_by_layer:
            raise ValueError("target_bits and bits_by_layer both say how many bits a layer gets; give one of them")
        if self.target_bits is not None and (self.bits != 4 or self.scheme is not Scheme.SYMMETRIC):
            raise ValueError("target_bits chooses bits and scheme of each layer by itself; leave them out")
        return self
