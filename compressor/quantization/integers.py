"""Weights as integers: what integer kernels multiply."""

from dataclasses import dataclass

import torch
from torch import Tensor

#: The scale where there is no weight: small, so that a bias, which is coded in its units, stays exact.
SCALE_OF_NOTHING = 2.0**-30


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """A weight as integers: `weight = codes * scale`, symmetric, so that a zero stays exactly zero."""

    #: int8, of the weight's shape.
    codes: Tensor
    #: float32; one for each slice along `axis`, or a single one of shape (1,).
    scale: Tensor
    #: The output channels' axis; null where one scale serves the whole tensor.
    axis: int | None = 0
    #: The codes lie within [-2**(bits - 1), 2**(bits - 1) - 1], or are odd and within [1 - 2**bits, 2**bits - 1].
    bits: int = 8

    def dequantized(self) -> Tensor:
        """The float32 weight that the codes mean."""
        shape = [1] * self.codes.dim()
        if self.axis is not None:
            shape[self.axis] = -1
        return self.codes.to(torch.float32) * self.scale.reshape(shape)
