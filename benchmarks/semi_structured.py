"""What 2:4 zeros bring on a GPU, by torch's semi-structured kernels; nothing where there is none."""

from typing import Any

import torch

from benchmarks.rows import Row
from benchmarks.untrained import untrained
from compressor.context import Context
from compressor.methods import prune_weights
from contract.methods.prune import PruneWeights

NETWORKS = ("vit_b_16", "vit_l_16")


def _told(name: str) -> dict[str, Any] | None:
    """What the step's report says."""
    details: dict[str, Any] = {}
    context = Context(device=torch.device("cuda"), record=details.__setitem__)
    prune_weights.apply(untrained(name, 224), PruneWeights(pattern="2:4"), context)
    found: dict[str, Any] | None = details["semi_structured"]
    return found


def _row(name: str) -> Row:
    found = _told(name)
    what = f"{name} at 224 pixels, zeros 2:4, float16 on {torch.cuda.get_device_name()} by torch {torch.__version__}"
    if found is None:
        return Row(group="9 GPU", what=what, measured="the kernels take none of its weights")
    return Row(
        group="9 GPU",
        what=f"{what}: p50 of a batch of {found['batch_size']:g}, {found['weights']:g} weights in sparse kernels",
        measured=f"{found['sparse_ms']:.2f} ms",
        beside=f"{found['dense_ms']:.2f} ms by dense kernels ({found['sparse_ms'] / found['dense_ms']:.3f}x)",
    )


def measure() -> list[Row]:
    """All of it."""
    return [_row(name) for name in NETWORKS] if torch.cuda.is_available() else []
