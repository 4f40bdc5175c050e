"""Distillation: a student learns from a teacher's outputs."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.params import Role, Stage, Training
from contract.model import Architecture


class Distill(Training):
    """Trains a student to answer as a teacher does."""

    method: Literal["distill"] = "distill"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    needs: ClassVar[frozenset[Role]] = frozenset({Role.TRAIN})
    needs_labels: ClassVar[bool] = True
    keeps_codes: ClassVar[bool] = True

    objective: Literal["kl", "mse"] = Field(
        default="kl", description="The distance between the answers: KL at a temperature, or squared error on logits."
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, description="Divides the logits in kl; its square scales the loss (Hinton 2015)."
    )
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="Weight of the teacher's part; 1 - alpha is that of the labels."
    )
    teacher: str = Field(
        default="original",
        pattern=r"^(original|uploaded|mdl_[0-9A-HJKMNP-TV-Z]{26})$",
        description="Who teaches: the model as the job got it, the id of another, or `uploaded` with a multipart job.",
    )
    student: Literal["current"] | Architecture = Field(
        default="current", description="Who learns: the model as the steps before left it, or a fresh architecture."
    )

    @property
    def models(self) -> Mapping[str, str]:
        """The one that teaches."""
        return {"/teacher": self.teacher}
