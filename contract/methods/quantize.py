"""Quantization: integers for weights, and for activations while the network runs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contract.methods.low_bit import ENDS
from contract.methods.params import Params, Patterns, Role, Stage

#: How the range of an activation is found.
Calibrator = Literal["minmax", "moving_average", "percentile", "entropy", "mse"]
#: What codes can be for.
Processor = Literal["x86-vnni", "x86-avx2", "arm64"]
Target = Literal["auto", "x86-vnni", "x86-avx2", "arm64"]
ActivationBits = Annotated[
    int,
    Field(
        ge=2,
        le=8,
        description="Bits of an activation that is multiplied with weights; one that is only added up has 8.",
    ),
]
AllLayers = Annotated[
    bool,
    Field(description="Treat the first and the last layer like all others; else they and what they read have 8 bits."),
]


class QuantizeDynamic(Params):
    """Stores the weights of linear and recurrent layers as INT8 and quantizes their inputs as they come."""

    method: Literal["quantize_dynamic"] = "quantize_dynamic"
    stage: ClassVar[Stage] = Stage.PRECISION

    per_channel: bool = Field(default=True, description="One scale for each output channel, not one for each tensor.")
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to quantize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float.")


class QuantizeStatic(Params):
    """Quantizes weights and activations to INT8, or to 2 to 8 bits, by what is seen on calibration data."""

    method: Literal["quantize_static"] = "quantize_static"
    stage: ClassVar[Stage] = Stage.PRECISION
    adds_activations: ClassVar[bool] = True
    needs: ClassVar[frozenset[Role]] = frozenset({Role.CALIBRATION})

    bits: int = Field(default=8, ge=2, le=8, description="Bits of a weight.")
    activation_bits: ActivationBits = 8
    all_layers: AllLayers = False
    calibrator: Calibrator = Field(
        default="moving_average",
        description="The range of an activation: all that was seen; a moving average of the ends of batches of 32; the "
        "middle of all values; the least Kullback-Leibler divergence (Migacz 2017); the least squared error, which is "
        "taken in any case for fewer bits than eight.",
    )
    percentile: float = Field(
        default=99.99, ge=50, le=100, description="How much of the values calibrator percentile keeps, in percent."
    )
    activations: Literal["auto", "asymmetric", "symmetric"] = Field(
        default="auto",
        description="Whether an activation's codes go from its smallest to its largest value, or as far below zero as "
        "above it; what has no values below zero has no codes there either way. auto is symmetric for arm64 alone.",
    )
    per_channel: bool = Field(default=True, description="One weight scale for each output channel.")
    equalize: bool = Field(
        default=False,
        description="Cross-layer equalization before calibration (Nagel et al. 2019): neighbouring layers with nothing "
        "but ReLU and pooling between them share the spread of their weights. ReLU6 keeps them apart; a lighten step "
        "with activations {relu6: relu} before this one brings them together.",
    )
    smooth: float | None = Field(
        default=0.5,
        ge=0,
        le=1,
        description="SmoothQuant before calibration (Xiao et al. 2023): the part of the spread of layer "
        "normalizations' channels that moves into the weights of the linear layers behind; null moves nothing.",
    )
    rounding: Literal["nearest", "adaptive", "reconstruction"] = Field(
        default="nearest",
        description="How weights are rounded: to the nearest code; up or down as suits the outputs of their layer "
        "(AdaRound, Nagel et al. 2020); or as suits those of their residual block, together with the steps of its "
        "activations (BRECQ, Li et al. 2021, with QDrop, Wei et al. 2022), which is for few bits. Both take minutes.",
    )
    iterations: int = Field(
        default=400, ge=1, le=100_000, description="Updates of each block, or layer outside of any, in reconstruction."
    )
    correct_bias: bool = Field(
        default=True,
        description="Take back what quantization shifts on average, in biases and shifts of batch normalization "
        "(Nagel et al. 2019).",
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Top-1 accuracy that may be lost on calibration data, as a fraction: the layers that move the "
        "answers most are put back to float until no more is lost. Null puts none back.",
    )
    target: Target = Field(
        default="auto",
        description="The processor that the codes are for; auto is the worker's own. Without VNNI weights have 7 bits, "
        "so that sums of two products fit 16; on arm64 activations are signed.",
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are used at most.")
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to quantize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float.")

    @property
    def few_bits(self) -> bool:
        """Whether something has fewer bits than eight."""
        return min(self.bits, self.activation_bits) < ENDS

    @property
    def labelled(self) -> frozenset[Role]:
        """Those by which a drop is measured."""
        return frozenset({Role.CALIBRATION} if self.max_drop is not None else ())
