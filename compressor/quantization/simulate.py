"""The networks that compute what a candidate's plan means."""

from torch import nn

from compressor.candidate import Candidate
from compressor.quantization.decoding import decode
from compressor.quantization.graph import capture
from compressor.quantization.realize import realize


def simulated(candidate: Candidate) -> nn.Module:
    """A module that answers as the candidate's deployed form does; the candidate's own where no activation is rounded.

    It shares the parameters that stay float with the candidate's module, and is made for inference.
    """
    if not candidate.plan.rounds_activations:
        return candidate.module
    graph = capture(candidate.module, candidate.input_shape)
    realize(graph, candidate.plan)
    return graph


def deployed(candidate: Candidate) -> nn.Module:
    """The same, in which every weight that has codes is there as codes alone."""
    if candidate.plan.empty:
        return candidate.module
    graph = capture(candidate.module, candidate.input_shape)
    if candidate.plan.rounds_activations:
        realize(graph, candidate.plan)
    decode(graph, candidate.plan)
    return graph
