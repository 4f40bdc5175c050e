"""Steps that take a second: any method on a small network."""

import copy

import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from contract.methods import METHODS, Params, Training
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images

_CPU = torch.device("cpu")


def params_of(name: str) -> Params:
    """The method's default params with what must be said; one epoch where it trains."""
    kind = METHODS[name]
    said = {
        field: info.examples[0] for field, info in kind.model_fields.items() if info.is_required() and info.examples
    }
    return kind.model_validate(said | dict(kind.example) | ({"epochs": 1} if issubclass(kind, Training) else {}))


def candidate_of(module: nn.Module, architecture: Architecture = NETWORK) -> Candidate:
    """The module as a step gets it."""
    return Candidate(module=module, architecture=architecture, preprocessing=PREPROCESSING, num_classes=4)


def context_of(
    original: Candidate, notes: dict[str, Json] | None = None, seed: int = 7, device: torch.device = _CPU
) -> Context:
    """What any method needs: images, and the original for every model that a method's params name."""
    data = images(48, seed=3)
    teacher = copy.deepcopy(original)
    teacher.module.to(device)
    others = {"original", *(model for name in METHODS for model in params_of(name).models.values())}
    return Context(
        device=device,
        seed=seed,
        train=data,
        calibration=data,
        others=dict.fromkeys(others, lambda: teacher),
        record=(notes if notes is not None else {}).__setitem__,
    )
