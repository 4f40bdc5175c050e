"""A light architecture in the model's place, to be taught by the steps that follow."""

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.models.replacement import replacement
from contract.methods.replace import ReplaceArchitecture


def preflight(candidate: Candidate, params: ReplaceArchitecture) -> None:
    """Build the architecture once, to see whether it can be built for this model."""
    replacement(candidate, params.architecture, seed=0)


def apply(candidate: Candidate, params: ReplaceArchitecture, context: Context) -> Candidate:
    """Build the architecture with as many classes as the model has, and seeded weights."""
    return replacement(candidate, params.architecture, seed=context.seed)
