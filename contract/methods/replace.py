"""Another, lighter network in the model's place."""

from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.params import Params, Stage
from contract.model import Architecture


class ReplaceArchitecture(Params):
    """Puts a light architecture in the model's place, to be taught by the steps that follow."""

    method: Literal["replace_architecture"] = "replace_architecture"
    stage: ClassVar[Stage] = Stage.ARCHITECTURE

    architecture: Architecture = Field(
        description="The network to use; its head gets as many classes as the model has.",
        examples=[{"library": "torchvision", "name": "mobilenet_v2"}],
    )
