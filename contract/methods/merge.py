"""Several networks of one architecture made into one."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Role, Stage

ModelId = Annotated[str, Field(pattern=r"^mdl_[0-9A-HJKMNP-TV-Z]{26}$")]


class Merge(Params):
    """Averages the weights of several networks of one architecture (model soup): no larger and no slower than one."""

    method: Literal["merge"] = "merge"
    stage: ClassVar[Stage] = Stage.WEIGHTS

    ingredients: tuple[ModelId, ...] = Field(
        min_length=1,
        max_length=16,
        description="Ids of the models to average with the one that the job works on: the same architecture and "
        "classes, trained from a common beginning (Wortsman et al. 2022).",
        examples=[["mdl_01JD0000000000000000000000"]],
    )
    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(
        default=None,
        description="How much each model counts, beginning with the job's own; only their ratios matter. Null: all "
        "the same.",
    )
    soup: Literal["uniform", "greedy"] = Field(
        default="uniform",
        description="uniform takes all of them. greedy begins with the one of the lowest loss on the labelled "
        "calibration images and takes the next one wherever the average's loss does not rise (recipe 1 of the paper).",
    )
    samples: int = Field(
        default=1024, ge=2, le=65_536, description="How many images greedy judges by, and statistics are measured on."
    )
    recalibrate: bool = Field(
        default=True,
        description="Move the mean of the statistics of batch normalization by what images show, where there is data: "
        "the mean of the weights has others than the mean of the models.",
    )

    @property
    def models(self) -> Mapping[str, str]:
        """All that are averaged with the job's own."""
        return {f"/ingredients/{index}": model for index, model in enumerate(self.ingredients)}

    @property
    def roles(self) -> frozenset[Role]:
        """Labelled images for the greedy soup."""
        return frozenset({Role.CALIBRATION}) if self.soup == "greedy" else frozenset()

    @property
    def labelled(self) -> frozenset[Role]:
        """The same images' labels."""
        return self.roles

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.ingredients)) != len(self.ingredients):
            raise ValueError("a model is named twice among the ingredients; weights say how much each counts")
        if self.weights is None:
            return self
        if len(self.weights) != len(self.ingredients) + 1:
            raise ValueError("weights has a number for the job's own model and one for each ingredient, in this order")
        if not any(self.weights):
            raise ValueError("at least one of weights is above 0")
        if self.soup == "greedy":
            raise ValueError("greedy decides by itself who counts, and all of them the same; weights go with uniform")
        return self
