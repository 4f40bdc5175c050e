"""A layer to be factorized: its weight, what is known of its input, and what errors of its output cost."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compressor.curvature.moments import Moments
from compressor.curvature.stakes import root
from compressor.inputs import Seeing, sees_all


@dataclass(frozen=True)
class Known:
    """A weight (outputs, channels, rows, columns), float64, and moments of the unfolded input or of the output.

    Where nothing is known the input is taken for white noise, and the weight itself is what counts. Where it is known
    what errors cost, outputs have coordinates in which all errors cost alike: `weighed` leads into them.
    """

    weight: Tensor
    moments: Moments | None
    #: R with R^T R = G, upper triangular (outputs, outputs): G tells what the loss makes of errors.
    weighed: Tensor | None = None

    @classmethod
    def of(cls, layer: Seeing, moments: Moments | None, stakes: Tensor | None = None) -> "Known":
        """A linear layer has a kernel of one row and one column; `stakes` is G."""
        weight = layer.weight.detach().cpu().double()
        plain = cls(weight if weight.dim() == 4 else weight[:, :, None, None], moments)
        if stakes is None:
            return plain
        into = root(stakes)
        if moments is not None and plain.wide:
            covariance = into @ moments.covariance.double() @ into.T
            moments = replace(moments, covariance=covariance.to(moments.covariance.dtype))
        return cls(torch.einsum("po,oiab->piab", into, plain.weight), moments, into)

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

    @property
    def at_stake(self) -> float:
        """What it costs to lose all of the output, where biases make up for means; 1 where nothing is known of costs.

        In nats for each image.
        """
        if self.weighed is None:
            return 1.0
        if self.wide and self.moments is not None:
            return 0.5 * float(self.moments.covariance.diagonal().sum())
        return 0.5 * float(self._power(self.flat))

    def plain(self, outputs: Tensor) -> Tensor:
        """What makes outputs in the coordinates of `weight`, (outputs, ...), as it makes them in the layer's own."""
        if self.weighed is None:
            return outputs
        found: Tensor = torch.linalg.solve_triangular(self.weighed, outputs.flatten(1), upper=True)
        return found.view(outputs.shape)

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
        return None if self.moments is None else self.plain((self.weight - other).flatten(1)) @ self.moments.mean
