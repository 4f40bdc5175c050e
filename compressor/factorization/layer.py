"""A layer to be factorized: its weight, and what is known of its input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.factorization.moments import Moments
from compressor.inputs import Seeing, sees_all


@dataclass(frozen=True)
class Known:
    """A weight (outputs, channels, rows, columns), float64, and moments of the unfolded input or of the output.

    Where nothing is known the input is taken for white noise, and the weight itself is what counts.
    """

    weight: Tensor
    moments: Moments | None

    @classmethod
    def of(cls, layer: Seeing, moments: Moments | None) -> "Known":
        """A linear layer has a kernel of one row and one column."""
        weight = layer.weight.detach().cpu().double()
        return cls(weight if weight.dim() == 4 else weight[:, :, None, None], moments)

    @property
    def flat(self) -> Tensor:
        """The weight as a matrix (outputs, features)."""
        return self.weight.flatten(1)

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def wide(self) -> bool:
        """Whether the moments are those of the output."""
        return self.moments is not None and not sees_all(self.flat.shape[1])

    @property
    def inputs(self) -> Tensor | None:
        """Second moments of the features (features, features); none for white noise."""
        return None if self.moments is None or self.wide else self.moments.covariance

    def averaged(self, equation: str) -> Tensor | None:
        """The features' moments, summed by an equation over (channel, row, column) twice, as `iabjab->ij`."""
        if self.inputs is None:
            return None
        shape = self.weight.shape[1:]
        return torch.einsum(equation, self.inputs.view(*shape, *shape)).double()

    def kept(self, other: Tensor) -> float:
        """Which part of the output, in squares, another weight of the same shape gives, where biases make up for means.

        Not to be asked of a wide layer.
        """
        difference = (self.weight - other).flatten(1)
        return 1 - float(self._power(difference) / self._power(self.flat))

    def _power(self, weight: Tensor) -> Tensor:
        seen = weight if self.inputs is None else (weight.float() @ self.inputs).double()
        return (seen * weight).sum()

    def bias_shift(self, other: Tensor) -> Tensor | None:
        """What another weight's bias must make up for, (outputs,); none where no mean is known."""
        return None if self.moments is None else (self.weight - other).flatten(1) @ self.moments.mean
