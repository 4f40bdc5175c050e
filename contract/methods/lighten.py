"""Lighter layers of the same function in the place of those that are there."""

from collections import Counter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Stage

#: Activations that can be told from each other, and put in each other's place.
ActivationName = Literal["relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu"]

#: A class by its name, or by its number among the outputs.
ClassChoice = Annotated[str, Field(max_length=256)] | Annotated[int, Field(ge=0)]


class Lighten(Params):
    """Puts lighter layers of the same function in the place of layers: exact ones by default, others by name."""

    method: Literal["lighten"] = "lighten"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    reshapes: ClassVar[bool] = True

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
    keep_classes: tuple[ClassChoice, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=100_000,
        description="The only classes that the model shall tell apart from this step on, by name or number, in the "
        "order of its new outputs: the last layer loses the rows of the others, whatever include and exclude say. "
        "Steps from this one on see images of these classes alone, and everything in the job is measured on them, the "
        "original too. Null keeps all. Training behind it may want fold_batch_norm false.",
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
        exact = self.fold_batch_norm or self.remove_dead or self.keep_classes
        if not (exact or self.separable or self.small_kernels or self.activations):
            raise ValueError("nothing is asked for: name at least one of the ways to make layers lighter")
        if self.depth_multiplier > 1 and not self.separable:
            raise ValueError("depth_multiplier is for separable, which is not asked for")
        same = next((old for old, new in self.activations.items() if old == new), None)
        if same is not None:
            raise ValueError(f"activations puts {same} in the place of {same}")
        return self

    @model_validator(mode="after")
    def _keeps_each_once(self) -> Self:
        twice = next((one for one, count in Counter(self.keep_classes or ()).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"keep_classes tells {twice} twice")
        return self

    @property
    def kept_classes(self) -> tuple[str | int, ...] | None:
        """Those of `keep_classes`."""
        return self.keep_classes

    @property
    def adds_layers(self) -> bool:
        """Where several layers stand in the place of one."""
        return bool(self.separable or self.small_kernels)
