"""How a network's weights lie in memory: convolutions train faster with the channels last (oneDNN, cuDNN)."""

import torch
from torch import nn


def channels_last(module: nn.Module) -> nn.Module:
    """The module with its four-dimensional weights in NHWC order; what it computes stays."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def contiguous(module: nn.Module) -> nn.Module:
    """The module with its weights in the order in which they are written."""
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return module
