"""What every step's params have in common, and what the API must know of a method without torch."""

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from contract.value import Value


class Stage(StrEnum):
    """Where in a job a method has its place."""

    #: Puts another network in the model's place: before everything else.
    ARCHITECTURE = "architecture"
    #: Changes the network's shape or its weights: in any order, any number of times.
    WEIGHTS = "weights"
    #: Decides how numbers are stored and multiplied: after everything else.
    PRECISION = "precision"


class Role(StrEnum):
    """What a dataset is used for in a job."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"


class Params(Value):
    """The parameters of one method; a subclass's docstring is the method's summary."""

    #: The name by which a step asks for the method; each subclass narrows it to one literal.
    method: str
    stage: ClassVar[Stage]
    #: Datasets without which the method cannot work. Training data stands in for missing calibration data.
    needs: ClassVar[frozenset[Role]] = frozenset()
    #: Whether the labels of the data are used too.
    needs_labels: ClassVar[bool] = False


#: Globs over module names, as in `layer1.*.conv2`.
Patterns = tuple[str, ...]


class Training(Params):
    """What every method that trains lets the client choose."""

    epochs: int = Field(default=3, ge=1, le=10_000, description="Passes over the training data.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adamw", description="The update rule; sgd has Nesterov momentum 0.9."
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=10, description="The largest step size of the schedule.")
    schedule: Literal["constant", "cosine"] = Field(
        default="cosine", description="How the learning rate falls: not at all, or to 0 along a cosine."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="Decoupled for adamw, an L2 penalty for adam and sgd."
    )
    batch_size: int = Field(default=64, ge=2, le=65_536, description="Images in a batch.")
    augment: Literal["none", "crop", "crop_flip"] = Field(
        default="none",
        description="Random changes of the training images: a shift by up to 1/8 of the side, and a mirror image.",
    )
