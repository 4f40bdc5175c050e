"""Sparse training: regularization until what is not needed is near zero, for a later step to cut."""

from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.params import Patterns, Recovery, Role, Stage, Training


class TrainSparse(Training, Recovery):
    """Trains with a penalty that drives weights, scales or whole channels towards zero, for a pruning step to cut."""

    method: Literal["train_sparse"] = "train_sparse"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    needs: ClassVar[frozenset[Role]] = frozenset({Role.TRAIN})
    needs_labels: ClassVar[bool] = True

    target: Literal["weights", "bn_scales", "channels"] = Field(
        default="weights",
        description="What is driven to zero: single weights (L1); the scales of batch normalization (network slimming, "
        "Liu et al. 2017); all that one channel is made of together (group lasso, Wen et al. 2016).",
    )
    strength: float = Field(
        default=0.1,
        gt=0,
        le=1e4,
        description="How far each update pulls towards zero, in parts of its step size: a magnitude shrinks by "
        "learning rate times strength, a channel's norm by that times the root of how many weights it has.",
    )
    growing: bool = Field(
        default=False, description="Let strength rise from 0 over the training, instead of being the same throughout."
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to regularize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules to leave alone.")
