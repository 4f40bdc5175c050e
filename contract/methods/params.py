"""What every step's params have in common, and what the API must know of a method without torch."""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.value import Json, Value


class Stage(StrEnum):
    """Where in a job a method has its place."""

    #: Puts another network in the model's place: before everything else.
    ARCHITECTURE = "architecture"
    #: Changes the network's shape or its weights: in any order, any number of times.
    WEIGHTS = "weights"
    #: Decides how weights are stored: after what changes them, but training may go on with what is stored.
    STORAGE = "storage"
    #: Decides how numbers are stored and multiplied: after everything else.
    PRECISION = "precision"


class Role(StrEnum):
    """What a dataset is used for in a job."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"


class Recipe(Value):
    """How a network is trained."""

    epochs: int = Field(default=3, ge=1, le=10_000, description="Passes over the training data.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adamw", description="The update rule; sgd has Nesterov momentum 0.9."
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=10, description="The largest step size of the schedule.")
    schedule: Literal["constant", "cosine", "one_cycle", "step"] = Field(
        default="cosine",
        description="How the step size goes: not at all; down to 0 along a cosine; up for 30 % of the time and then "
        "down (Smith and Topin 2019); down to a tenth after half and again after three quarters of the time.",
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, le=10_000, description="Epochs, or a part of one, over which the step size rises from 0."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="Decoupled for adamw, an L2 penalty for adam and sgd."
    )
    batch_size: int = Field(default=64, ge=2, le=65_536, description="Images in a batch.")
    augment: Literal["none", "crop", "crop_flip", "resized_crop_flip"] = Field(
        default="none",
        description="Random changes of the training images: a shift by up to 1/8 of the side; and a mirror image; or "
        "that of a rectangle of 35 to 100 % of the area at the image's size, as is usual on ImageNet.",
    )
    mix: Literal["none", "mixup", "cutmix"] = Field(
        default="none",
        description="Blends pairs of images and their labels: the whole of them (Zhang et al. 2018, alpha 0.2), or a "
        "rectangle of one in the other (Yun et al. 2019, alpha 1).",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Part of each label that is spread over all classes."
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of the gradient of all weights together; null does not bound it."
    )
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of a moving average of the weights, such as 0.999, which is what is then kept; 0: none.",
    )
    freeze_after: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Part of the training after which batch normalization keeps its statistics, as it does when it is "
        "deployed; before, it goes by those of each batch. 0 serves a network that is nearly right, and was trained on "
        "more, or otherwise changed, images than these. Null: never.",
    )
    precision: Literal["float32", "bf16", "auto"] = Field(
        default="float32",
        description="Of the forward and backward pass; weights and updates stay float32. auto takes bf16 where the "
        "device computes this network faster with it.",
    )
    held_out: float = Field(
        default=0.0, ge=0, le=0.5, description="Part of the training data by which epochs are judged, not trained on."
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many epochs in which the loss on held_out has not fallen."
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="Which epoch's weights are kept: the last one's, or those best on held_out."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.held_out and (self.patience is not None or self.keep == "best"):
            raise ValueError("patience and keep best judge epochs by held_out, so it must be above 0")
        if self.warmup_epochs > self.epochs:
            raise ValueError("warmup_epochs is longer than epochs")
        if self.warmup_epochs and self.schedule == "one_cycle":
            raise ValueError("one_cycle has a rise of its own, so warmup_epochs must be 0")
        return self

    @property
    def reads_labels(self) -> bool:
        """Whether the training data must be labelled."""
        return True

    @property
    def normalizing(self) -> float:
        """The part of the training in which batch normalization goes by each batch."""
        return 1.0 if self.freeze_after is None else self.freeze_after


class Recovery(Recipe):
    """Training that gives back what compression took."""

    distill_from_original: bool = Field(
        default=False,
        description="Learn what the original answers too (KL at temperature 4).",
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="With distill_from_original: weight of what the original answers; 1 - alpha is that of the labels. "
        "With 1 the images need none.",
    )

    @model_validator(mode="after")
    def _has_two_to_weigh(self) -> Self:
        if not self.distill_from_original and self.alpha != 0.9:
            raise ValueError(
                "alpha weighs what the original answers against the labels, so distill_from_original must be true"
            )
        return self

    @property
    def reads_labels(self) -> bool:
        """Not where everything is learnt from the original."""
        return not self.distill_from_original or self.alpha < 1


class Params(Value):
    """The parameters of one method; a subclass's docstring is the method's summary."""

    #: The name by which a step asks for the method; each subclass narrows it to one literal.
    method: str
    stage: ClassVar[Stage]
    #: Datasets without which the method cannot work. Training data stands in for missing calibration data.
    needs: ClassVar[frozenset[Role]] = frozenset()
    #: What a step says where its defaults alone say too little.
    example: ClassVar[Mapping[str, Json]] = {}
    #: Whether the labels of the data are used too.
    needs_labels: ClassVar[bool] = False
    #: Whether it leaves tensors of other shapes or names, which nobody knows before it is done.
    reshapes: ClassVar[bool] = False
    #: Whether it leaves weights with the codes that an earlier step has given them.
    keeps_codes: ClassVar[bool] = False
    #: Whether it takes what steps of other methods have left, be that little.
    takes_the_rest: ClassVar[bool] = False
    #: Whether it takes the layers whose weights are stored as codes as they are, and quantizes their activations.
    adds_activations: ClassVar[bool] = False

    @property
    def recipe(self) -> Recipe | None:
        """The training that the step does, where it does any."""
        return None

    @property
    def models(self) -> Mapping[str, str]:
        """The models that the step names beside the one it works on, by JSON pointers within the step."""
        return {}

    @property
    def kept_classes(self) -> tuple[str | int, ...] | None:
        """The only classes that the step leaves, by name or number, in their new order; none where it leaves all."""
        return None

    @property
    def adds_layers(self) -> bool:
        """Whether it leaves layers under names that nobody knows before it is done."""
        return False

    @property
    def labelled(self) -> frozenset[Role]:
        """The datasets whose labels the step reads."""
        return frozenset({Role.TRAIN} if self.recipe and self.recipe.reads_labels else ())

    @property
    def roles(self) -> frozenset[Role]:
        """Datasets without which the step cannot work as it is asked for."""
        return self.needs | ({Role.TRAIN} if self.recipe else frozenset())


def step_named(name: str) -> int | None:
    """Which step left the model that goes by this name, such as `step_0`; none where it is no step's."""
    return int(name.removeprefix("step_")) if name.startswith("step_") else None


def is_of_the_job(name: str) -> bool:
    """Whether the model that goes by this name is the job's own, as it came or as a step left it."""
    return name == "original" or step_named(name) is not None


#: Globs over module names, as in `layer1.*.conv2`.
Patterns = tuple[str, ...]


class Training(Params, Recipe):
    """A method whose work is training."""

    @property
    def recipe(self) -> Recipe:
        """All of it."""
        return self
