"""How much each layer can lose: measured, with nothing changed."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contract.methods.params import Params, Patterns, Role, Stage


class AnalyzeSensitivity(Params):
    """Prunes one layer at a time and measures how the answers change; the model stays as it is."""

    method: Literal["analyze_sensitivity"] = "analyze_sensitivity"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    needs: ClassVar[frozenset[Role]] = frozenset({Role.CALIBRATION})
    keeps_codes: ClassVar[bool] = True

    importance: Literal["l1", "random", "gradient", "wanda"] = Field(
        default="l1", description="What tells which weights go first, as in prune_weights."
    )
    pattern: Literal["unstructured", "filters", "1x4", "4x1"] = Field(
        default="unstructured", description="Which weights go together, as in prune_weights."
    )
    amounts: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.25, 0.5, 0.75, 0.9),
        min_length=1,
        max_length=16,
        description="Fractions of a layer's weights to try, one after the other.",
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are answered at most.")
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to try.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules to leave out.")

    @property
    def labelled(self) -> frozenset[Role]:
        """Those from which gradients are taken."""
        return frozenset({Role.CALIBRATION} if self.importance == "gradient" else ())
