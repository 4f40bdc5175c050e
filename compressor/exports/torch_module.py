"""A torch module as what runs a file."""

import torch
from torch import nn

from compressor.format import Floats, Run


def version() -> str:
    """The runtime and its version."""
    return f"torch {torch.__version__}"


def running(module: nn.Module) -> Run:
    """What answers with the module, operator by operator."""

    def run(x: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = module(torch.from_numpy(x)).numpy()
        return logits

    return run
