"""Batch normalization that keeps its statistics while all else is trained."""

import torch.nn.functional as F
from torch import Tensor, nn


class Normalization(nn.Module):
    """Batch normalization over what it is given: by the batch's own statistics where it is in training."""

    def forward(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Activations (N, C, ...) of mean 0 and variance 1, scaled and shifted; the running statistics follow."""
        return F.batch_norm(x, mean, variance, weight, bias, training=self.training, momentum=momentum, eps=eps)


def freeze(module: nn.Module) -> None:
    """From now on normalization goes by the statistics it has, though the rest trains; `train` undoes it."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm | Normalization):
            part.eval()
