"""Depth pruning: whole residual blocks go."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Role, Stage

#: What can be said of how much goes.
_AMOUNTS = ("count", "macs_ratio", "parameters_ratio")


class PruneBlocks(Params):
    """Removes whole residual blocks, the least important first; a training step behind it gives back what they did."""

    method: Literal["prune_blocks"] = "prune_blocks"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    reshapes: ClassVar[bool] = True

    count: int | None = Field(
        default=None, ge=1, le=1000, description="How many blocks to remove; 1 where nothing else says how much."
    )
    macs_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Remove blocks until at most this part of the multiply-accumulates is left.",
    )
    parameters_ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Remove blocks until at most this part of the parameters is left."
    )
    importance: Literal["fidelity", "output", "l1"] = Field(
        default="fidelity",
        description="What tells a block's importance: how far the network's answers move without it (KL), measured "
        "anew after each removal; by how much its output differs from its input, as one minus their cosine (block "
        "influence, Men et al. 2024), which takes one run for all; the mean magnitude of its weights.",
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many calibration images are looked at at most.")
    recalibrate: bool = Field(
        default=True, description="Measure the statistics of batch normalization anew behind it, where there is data."
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the blocks that may go.")
    exclude: Patterns = Field(default=(), description="Globs over the names of blocks that stay.")

    @property
    def roles(self) -> frozenset[Role]:
        """Calibration data for the importances that look at images."""
        return super().roles | (frozenset() if self.importance == "l1" else frozenset({Role.CALIBRATION}))

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, given: Any) -> Any:
        if isinstance(given, dict) and all(given.get(name) is None for name in _AMOUNTS):
            return given | {"count": 1}
        return given

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if sum(getattr(self, name) is not None for name in _AMOUNTS) != 1:
            raise ValueError("give one of count, macs_ratio and parameters_ratio")
        return self
