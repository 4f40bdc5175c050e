"""The eager network that computes what a candidate's plan means."""

from torch import nn

from compressor.candidate import Candidate


def simulated(candidate: Candidate) -> nn.Module:
    """A module that answers as the candidate's deployed form does; the candidate's own module where nothing is planned."""
    return candidate.module
