"""Depthwise separable convolutions in the place of standard ones (MobileNet, Howard et al. 2017, arXiv:1704.04861)."""

from dataclasses import dataclass

from torch import Tensor, linalg

from compressor.models.parts import Convolution


@dataclass(frozen=True)
class Separable:
    """A depthwise convolution of the same kernel, and a 1x1 that mixes what it gives."""

    name = "separable"
    smallest = 2

    depth_multiplier: int = 1
    #: Of the images: what reads them would get one filter a colour, so it is left alone as in MobileNet.
    colours: int = 3

    def misfit(self, layer: Convolution) -> str | None:
        """Why this is not for such a layer; null where it is."""
        if layer.groups > 1:
            return "has groups"
        return "reads the image" if layer.in_channels == self.colours else None

    def parts(self, layer: Convolution) -> tuple[Convolution, Convolution]:
        """The two layers; the second has the bias."""
        width = layer.in_channels * self.depth_multiplier
        depthwise = layer.model_copy(update={"out_channels": width, "groups": layer.in_channels, "bias": False})
        pointwise = Convolution(in_channels=width, out_channels=layer.out_channels, kernel_size=(1, 1), bias=layer.bias)
        return depthwise, pointwise

    def weights(self, weight: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
        """The nearest weights to one of shape (out, in, height, width): for each input channel its best few filters.

        The slice of an input channel is a matrix (out, height * width). Its leading right singular vectors are the
        depthwise filters, and what they leave of it is the pointwise weight (Eckart and Young 1936).
        """
        out, channels, height, width = weight.shape
        slices = weight.detach().double().permute(1, 0, 2, 3).reshape(channels, out, height * width)
        # The right singular vectors are the eigenvectors of the smaller of the two products; the largest come last.
        _, vectors = linalg.eigh(slices.transpose(1, 2) @ slices)
        filters = vectors[:, :, -self.depth_multiplier :]
        mixing = (slices @ filters).permute(1, 0, 2)
        depthwise = filters.transpose(1, 2).reshape(-1, 1, height, width)
        return depthwise.to(weight.dtype), mixing.reshape(out, -1, 1, 1).to(weight.dtype)
