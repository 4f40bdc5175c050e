"""Quantization-aware training: the network learns while it computes as integers will."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.low_bit import ENDS
from contract.methods.params import Patterns, Recovery, Role, Stage, Training
from contract.methods.quantize import ActivationBits, AllLayers, Calibrator, Target

#: How codes are trained.
Quantizer = Literal["lsq", "pact", "dorefa"]
#: Odd codes of more bits do not fit int8.
_ODD_BITS = 7


class QuantizeAware(Training, Recovery):
    """Quantizes weights to 1 to 8 bits and activations to 2 to 8, and trains with their rounding in place."""

    method: Literal["quantize_aware"] = "quantize_aware"
    stage: ClassVar[Stage] = Stage.PRECISION
    adds_activations: ClassVar[bool] = True
    needs: ClassVar[frozenset[Role]] = frozenset({Role.TRAIN})
    needs_labels: ClassVar[bool] = True

    bits: int = Field(default=8, ge=1, le=8, description="Bits of a weight; with 1 it is a sign, times a scale.")
    activation_bits: ActivationBits = 8
    quantizer: Quantizer = Field(
        default="lsq",
        description="What is learned of the codes: the steps of weights and activations (LSQ, Esser et al. 2020); the "
        "level at which activations without values below zero are clipped (PACT, Choi et al. 2018), the steps of all "
        "others; or nothing (DoReFa-Net, Zhou et al. 2016), activations staying in their measured ranges. pact and "
        "dorefa round the tanh of weights to odd multiples of a step that follows from the largest of each output "
        "channel, in 1 to 7 bits, without VNNI 6; with 8 bits, as the first and the last layer have, weights learn "
        "their steps.",
    )
    clip_decay: float = Field(
        default=2e-4,
        ge=0,
        le=1,
        description="With pact: the part of a clipping level that is added to its gradient, an L2 penalty.",
    )
    all_layers: AllLayers = False
    calibrator: Calibrator = Field(
        default="mse",
        description="Where the range of an activation begins, before it is learned: all that was seen; a moving "
        "average of the ends of batches of 32; the middle 99.99 % of all values; the least Kullback-Leibler "
        "divergence; the least squared error, which is taken in any case for fewer bits than eight.",
    )
    target: Target = Field(
        default="auto",
        description="The processor that the codes are for; auto is the worker's own. Without VNNI weights have 7 bits, "
        "so that sums of two products fit 16; on arm64 activations are signed, and zero lies in their middle.",
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are used at most.")
    learning_rate: float = Field(
        default=1e-4,
        gt=0,
        le=10,
        description="The largest step size of the schedule; below four bits 1e-3 serves better.",
    )
    freeze_after: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Part of the training after which batch normalization keeps its statistics, as it does when it is "
        "deployed; before, it goes by those of each batch. Null: 0 with eight bits, which hardly move what it is "
        "given, and two thirds with fewer. From 0 on, rates like SGD's 0.01 throw the network off; 0.003 does not.",
    )
    precision: Literal["float32"] = Field(
        default="float32", description="Of the forward and backward pass; bfloat16 has too few digits for these codes."
    )
    distill_from_original: bool = Field(
        default=True,
        description="Learn nine parts of what the original answers (KL at temperature 4) and one part of the labels.",
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to quantize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float.")

    @property
    def few_bits(self) -> bool:
        """Whether something has fewer bits than eight."""
        return min(self.bits, self.activation_bits) < ENDS

    @property
    def normalizing(self) -> float:
        """The part of the training in which batch normalization goes by each batch."""
        by_bits = 2 / 3 if self.few_bits else 0.0
        return by_bits if self.freeze_after is None else self.freeze_after

    @property
    def odd(self) -> bool:
        """Whether the codes of weights are odd."""
        return self.quantizer != "lsq"

    @model_validator(mode="after")
    def _fits_int8(self) -> Self:
        if self.odd and self.bits > _ODD_BITS:
            raise ValueError(
                f"quantizer {self.quantizer} has odd codes, which fit int8 with 1 to {_ODD_BITS} bits, and bits is "
                f"{self.bits}"
            )
        return self
