"""Another, lighter network in the model's place."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.architecture import Stem
from contract.methods.params import Params, Stage
from contract.model import Architecture
from contract.value import Json, Value


class Budget(Value):
    """What a network may cost at most, counted with the model's own input and classes."""

    max_parameters: int | None = Field(default=None, ge=1, description="Parameters at most.")
    max_macs: int | None = Field(default=None, ge=1, description="Multiply-accumulates for one image at most.")
    max_size_bytes: int | None = Field(
        default=None, ge=1, description="Bytes of the safetensors file with its weights in float32 at most."
    )
    library: Literal["torchvision"] = Field(
        default="torchvision",
        description="Whose architectures are looked at: only torchvision publishes an accuracy to choose by. One of "
        "timm's is named as `architecture`.",
    )

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.max_parameters is None and self.max_macs is None and self.max_size_bytes is None:
            raise ValueError("a budget has at least one of max_parameters, max_macs and max_size_bytes")
        return self


class ReplaceArchitecture(Params):
    """Puts a light architecture in the model's place, named or chosen by a budget; the steps that follow teach it."""

    method: Literal["replace_architecture"] = "replace_architecture"
    stage: ClassVar[Stage] = Stage.ARCHITECTURE
    example: ClassVar[Mapping[str, Json]] = {"architecture": {"library": "torchvision", "name": "squeezenet1_1"}}

    architecture: Architecture | None = Field(
        default=None,
        description="The network to use; its head gets as many classes as the model has.",
    )
    budget: Budget | None = Field(
        default=None,
        description="Instead of a name: of the architectures that cost no more than this, the one whose default "
        "weights have the highest published top-1 on ImageNet.",
        examples=[{"max_parameters": 3000000}],
    )
    stem: Stem = Field(
        default="auto",
        description="auto: for images of at most 64 pixels the first strides become 1, one resolution after another, "
        "until the smallest feature map has 4x4 positions. keep: the network as the library builds it.",
    )
    initialize: Literal["original", "random"] = Field(
        default="original",
        description="original: layers of the same name, kind and shape begin with the model's own weights, where both "
        "networks are of one family, such as two ResNets. random: none does.",
    )

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Self:
        if (self.architecture is None) == (self.budget is None):
            raise ValueError("give either an architecture or a budget")
        return self
