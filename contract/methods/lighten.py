"""Lighter layers of the same function in the place of those that are there."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Stage

#: Activations that can be told from each other, and put in each other's place.
ActivationName = Literal["relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu"]


class Lighten(Params):
    """Puts lighter layers of the same function in the place of layers: exact ones by default, others by name."""

    method: Literal["lighten"] = "lighten"
    stage: ClassVar[Stage] = Stage.WEIGHTS

    fold_batch_norm: bool = Field(
        default=True,
        description="Multiply batch normalization into the convolution or linear layer before it, which answers the "
        "same; training behind this step has no batch normalization there any more.",
    )
    remove_dead: bool = Field(
        default=True, description="Take away what does something in training only: dropout, stochastic depth."
    )
    separable: bool | Patterns = Field(
        default=False,
        description="Convolutions with kernels larger than 1x1 become depthwise ones and a 1x1 behind (MobileNet, "
        "Howard et al. 2017) where that takes fewer MACs: all of them, or those that globs over module names mean. On "
        "calibration images, where there are any, they are fitted to what the originals give.",
    )
    depth_multiplier: int = Field(
        default=1, ge=1, le=64, description="With separable: depthwise filters for each input channel."
    )
    small_kernels: bool | Patterns = Field(
        default=False,
        description="Convolutions of 5x5, 7x7 and larger become several of 3x3 (VGG; Szegedy et al. 2016) where that "
        "takes fewer MACs, depthwise ones too: all of them, or those that globs mean. Fitted as separable is.",
    )
    activations: dict[ActivationName, ActivationName] = Field(
        default_factory=dict,
        description="Which activation takes the place of which, as in silu: hardswish, gelu: relu. Only those that "
        "are modules of the network can be replaced.",
    )
    samples: int = Field(
        default=256, ge=1, le=65_536, description="How many calibration images layers are fitted on at most."
    )
    recalibrate: bool = Field(
        default=True,
        description="Let the statistics of batch normalization follow what is not exact, where there is data.",
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules that may change.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules that stay as they are.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not any((self.fold_batch_norm, self.remove_dead, self.separable, self.small_kernels, self.activations)):
            raise ValueError("nothing is asked for: name at least one of the ways to make layers lighter")
        if self.depth_multiplier > 1 and not self.separable:
            raise ValueError("depth_multiplier is for separable, which is not asked for")
        same = next((old for old, new in self.activations.items() if old == new), None)
        if same is not None:
            raise ValueError(f"activations puts {same} in the place of {same}")
        return self
