"""Training with pruned weights kept at zero."""

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.training.recovery import recover
from contract.methods.train import FineTune


def apply(candidate: Candidate, params: FineTune, context: Context) -> Candidate:
    """Train the candidate on the labels of the training data, and on the original's answers where it is asked to."""
    return recover(candidate, params, context).coded(candidate)
