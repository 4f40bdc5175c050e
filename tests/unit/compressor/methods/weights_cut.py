"""Pruned weights of a small network that has learnt something."""

import copy

from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.methods import prune_weights
from contract.methods.prune import PruneWeights
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images

DATA = images(96, seed=0)


def small(module: nn.Module) -> Candidate:
    """A candidate with a copy of the network."""
    return Candidate(module=copy.deepcopy(module), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4)


def cut(module: nn.Module, notes: dict[str, Json] | None = None, **params: object) -> Candidate:
    """The network pruned on images."""
    context = Context(train=DATA, calibration=DATA, record=(notes if notes is not None else {}).__setitem__)
    return prune_weights.apply(small(module), PruneWeights.model_validate(params), context)
