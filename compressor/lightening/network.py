"""A network whose layers are being replaced, and what becomes of each."""

from dataclasses import dataclass, field
from typing import Self

from torch import nn

from compressor.candidate import Candidate
from compressor.layers import matches
from compressor.models.edits import Edit, apply_edits
from contract.methods.lighten import Lighten


@dataclass(frozen=True)
class Network:
    """The module, changed in place by edits that are kept."""

    module: nn.Module
    input_shape: tuple[int, int, int]
    params: Lighten
    #: Names of the modules with pruned weights, and of those with codes from earlier steps.
    masked: frozenset[str]
    coded: frozenset[str]
    edits: list[Edit] = field(default_factory=list)
    #: Why layers that were meant stay as they are, by name.
    left: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, candidate: Candidate, params: Lighten) -> Self:
        """The candidate's network, still as it was."""
        masked, coded = frozenset(map(_owner, candidate.masks)), frozenset(map(_owner, candidate.plan.weights))
        return cls(candidate.module, candidate.input_shape, params, masked, coded)

    def may_change(self, name: str) -> bool:
        """Whether the patterns mean the module of this name."""
        return matches(name, include=self.params.include, exclude=self.params.exclude)

    def do(self, *edits: Edit) -> None:
        """Do the edits, and keep them."""
        apply_edits(self.module, edits)
        self.edits.extend(edits)


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]
