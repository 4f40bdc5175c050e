"""How you ask from Python and from a shell."""

from pathlib import Path
from typing import TYPE_CHECKING

from modelpress.client import Client, Unreachable

if TYPE_CHECKING:
    from torch import nn


def load_model(folder: Path | str) -> "nn.Module":
    """The network that a job delivered into `folder` (model.safetensors and model.json), on the CPU in eval mode.

    It takes normalized float32 images (N, C, H, W) and answers with logits (N, classes). Needs the extra
    `modelpress[compressor]`, no service and no pickle. Raises `contract.failures.InvalidModel`.
    """
    from compressor.models.files import load_model as load  # The client is light: torch is loaded only here.

    return load(folder)


__all__ = ["Client", "Unreachable", "load_model"]
