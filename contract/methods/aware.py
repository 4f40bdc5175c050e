"""Quantization-aware training: the network learns while it computes as integers will."""

from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.low_bit import ENDS
from contract.methods.params import Patterns, Recovery, Role, Stage, Training
from contract.methods.quantize import ActivationBits, AllLayers, Calibrator, Target


class QuantizeAware(Training, Recovery):
    """Quantizes weights to 1 to 8 bits and activations to 2 to 8, and trains with their rounding in place."""

    method: Literal["quantize_aware"] = "quantize_aware"
    stage: ClassVar[Stage] = Stage.PRECISION
    adds_activations: ClassVar[bool] = True
    needs: ClassVar[frozenset[Role]] = frozenset({Role.TRAIN})
    needs_labels: ClassVar[bool] = True

    bits: int = Field(default=8, ge=1, le=8, description="Bits of a weight; with 1 it is a sign, times a scale.")
    activation_bits: ActivationBits = 8
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
        "given, and two thirds with fewer.",
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
