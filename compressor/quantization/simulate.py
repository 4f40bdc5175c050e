"""The network that computes what a candidate's plan means."""

from torch import nn

from compressor.candidate import Candidate
from compressor.quantization.graph import capture
from compressor.quantization.realize import realize


def simulated(candidate: Candidate) -> nn.Module:
    """A module that answers as the candidate's deployed form does; the candidate's own module where nothing is planned.

    It shares the parameters that stay float with the candidate's module, and is made for inference.
    """
    if candidate.plan.empty:
        return candidate.module
    graph = capture(candidate.module, candidate.input_shape)
    realize(graph, candidate.plan)
    return graph
