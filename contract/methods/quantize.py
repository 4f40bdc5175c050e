"""Quantization: integers for weights, and for activations while the network runs."""

from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.params import Params, Patterns, Role, Stage


class QuantizeDynamic(Params):
    """Stores the weights of linear and recurrent layers as INT8 and quantizes their inputs as they come."""

    method: Literal["quantize_dynamic"] = "quantize_dynamic"
    stage: ClassVar[Stage] = Stage.PRECISION

    per_channel: bool = Field(default=True, description="One scale for each output channel, not one for each tensor.")
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to quantize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float.")


class QuantizeStatic(Params):
    """Quantizes weights and activations to INT8 with ranges measured on calibration data."""

    method: Literal["quantize_static"] = "quantize_static"
    stage: ClassVar[Stage] = Stage.PRECISION
    needs: ClassVar[frozenset[Role]] = frozenset({Role.CALIBRATION})

    calibrator: Literal["minmax", "percentile"] = Field(
        default="minmax", description="The range of an activation: all that was seen, or the middle 99.99 % of it."
    )
    per_channel: bool = Field(default=True, description="One weight scale for each output channel.")
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are used at most.")
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to quantize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay float.")
