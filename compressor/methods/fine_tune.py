"""Training on labels, with pruned weights kept at zero."""

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.training.loop import train
from compressor.training.objectives import cross_entropy
from contract.methods.train import FineTune


def apply(candidate: Candidate, params: FineTune, context: Context) -> Candidate:
    """Train the candidate on the labels of the training data."""
    train(candidate, params, context, objective=cross_entropy)
    return candidate
