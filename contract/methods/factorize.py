"""Factorization: one layer becomes a few cheaper ones."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Stage

Part = Annotated[float, Field(gt=0, le=1)]
#: A part of the full rank, or a number.
Rank = Part | Annotated[int, Field(ge=2)]

#: What can be said of how much is kept.
AMOUNTS = ("macs_ratio", "parameters_ratio", "rank", "energy")


class Decomposition(StrEnum):
    """Which layers stand in a layer's place."""

    #: The layer with fewer outputs, then 1 x 1.
    SVD = "svd"
    #: k x 1, then 1 x k.
    SPATIAL = "spatial"
    #: 1 x 1, k x k between few channels, 1 x 1.
    TUCKER = "tucker"
    #: 1 x 1, k x 1 and 1 x k within each channel, 1 x 1.
    CP = "cp"


class Factorize(Params):
    """Puts a few cheaper layers of low rank in the place of convolutions, linear layers and attention's projections."""

    method: Literal["factorize"] = "factorize"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    reshapes: ClassVar[bool] = True

    scheme: Literal["auto"] | Decomposition = Field(
        default="auto",
        description="svd: the layer with fewer outputs, then 1 x 1, or two linear layers (Zhang et al. 2015); spatial: "
        "k x 1, then 1 x k (Jaderberg et al. 2014); tucker: 1 x 1, k x k between few channels, 1 x 1 (Kim et al. "
        "2016); cp: 1 x 1, k x 1 and 1 x k in each channel, 1 x 1 (Lebedev et al. 2015). auto: for each layer which "
        "of the first three loses least for what it saves; with rank, spatial where there is a kernel and else svd.",
    )
    macs_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Multiply-accumulates of the network to leave, as a part of those before the step: ranks are "
        "chosen over all layers together so that the least is lost. 0.5 where nothing else says how much.",
    )
    parameters_ratio: float | None = Field(
        default=None, gt=0, lt=1, description="The same with parameters to leave, as a part of those before the step."
    )
    rank: Rank | None = Field(
        default=None,
        description="Rank of every layer: up to 1 a part of the full one, from 2 on the number itself, where it pays.",
    )
    energy: Part | None = Field(
        default=None,
        description="Part of what each layer gives out to keep, counted in squares; with loss_aware weighed by what "
        "the loss makes of it, without data of its weight.",
    )
    rank_by_layer: dict[str, Rank] = Field(
        default_factory=dict,
        max_length=256,
        description="With rank: ranks of their own, by globs over the names of modules; the first that matches counts.",
    )
    data_aware: bool = Field(
        default=True,
        description="Lose the least of what layers give out on calibration images, where there are any, and not of "
        "their weights.",
    )
    loss_aware: bool = Field(
        default=True,
        description="With data_aware, weigh what layers lose by what the loss makes of it: derivatives of the "
        "log-likelihood of answers drawn from the network itself, so that no label is needed.",
    )
    reconstruct: bool = Field(
        default=True,
        description="With data_aware, fit the last factor of each layer to what the layer gave before, one after the "
        "other, so that each makes up for those before it (Zhang et al. 2015): least squares, without labels. That "
        "takes a run of both networks over the images for each of them.",
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are used at most.")
    round_to: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Ranks are multiples of this, or powers of two below it; those told by number stay as told.",
    )
    recalibrate: bool = Field(
        default=True,
        description="Measure the statistics of batch normalization anew behind it, where there is data; a network that "
        "is reconstructed keeps its own.",
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to factorize.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules to leave alone.")

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, given: Any) -> Any:
        if not isinstance(given, dict) or any(given.get(one) is not None for one in AMOUNTS):
            return given
        return given | {"macs_ratio": 0.5}

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if sum(getattr(self, one) is not None for one in AMOUNTS) > 1:
            raise ValueError(f"give one of {', '.join(AMOUNTS[:-1])} and {AMOUNTS[-1]}")
        if self.rank_by_layer and self.rank is None:
            raise ValueError("rank_by_layer gives single layers another rank than all others, so it needs rank")
        return self

    @property
    def adds_layers(self) -> bool:
        """Factors, in the place of a layer."""
        return True
