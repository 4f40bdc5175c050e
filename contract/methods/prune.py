"""Pruning: zeros in place, or smaller tensors."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Stage


class PruneWeights(Params):
    """Sets the least important weights to zero; the tensors keep their shapes."""

    method: Literal["prune_weights"] = "prune_weights"
    stage: ClassVar[Stage] = Stage.WEIGHTS

    importance: Literal["l1", "random"] = Field(
        default="l1", description="What tells a weight's importance: its magnitude, or chance."
    )
    amount: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Fraction of the weights to zero; 0.5 where neither this nor count is given.",
    )
    count: int | None = Field(
        default=None, ge=0, description="Number of weights to zero: in each layer, or in all with scope global."
    )
    scope: Literal["layer", "global"] = Field(
        default="layer", description="Whether the weights of each layer or of all layers together are ranked."
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to prune.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules to leave alone.")

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.amount is not None and self.count is not None:
            raise ValueError("give amount or count, not both")
        return self


class PruneChannels(Params):
    """Removes the least important channels, so that the tensors become smaller."""

    method: Literal["prune_channels"] = "prune_channels"
    stage: ClassVar[Stage] = Stage.WEIGHTS

    ratio: float = Field(
        default=0.5, gt=0, lt=1, description="Fraction of the channels to remove; parameters fall by about its square."
    )
    importance: Literal["l1", "l2"] = Field(
        default="l2", description="The norm of a channel's weights over all the layers that share it."
    )
    scope: Literal["layer", "global"] = Field(
        default="layer", description="Whether channels are ranked within their layer or over the whole network."
    )
    round_to: int = Field(
        default=8, ge=1, le=256, description="Channel counts stay multiples of this; INT8 kernels want 8."
    )
    include: Patterns = Field(
        default=("*",), description="Globs over the names of the modules whose outputs may shrink."
    )
    exclude: Patterns = Field(
        default=(), description="Globs over the names of modules whose outputs stay; the classifier's always do."
    )
