"""Weights that have codes, in training.

The network computes with what the codes mean, and every update reaches a float weight behind them as if that were what
it computes with: the straight-through estimator (Bengio et al. 2013, section 4; BinaryConnect, Courbariaux et al. 2015,
algorithm 1). After each update a weight takes the code of its nearest level, and scales and codebooks get the least
squared error that these codes allow: one turn of Lloyd's algorithm, which for a codebook trains the centroids (Han et
al. 2016, section 3.3).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressor.quantization.fitting import refitted
from compressor.quantization.levels import LevelCodes
from compressor.quantization.plan import codes_from, tensors_of

_LATENT = "latent."


class Straight:
    """The coded weights of one module in training."""

    def __init__(self, module: nn.Module, codes: Mapping[str, LevelCodes], masks: Mapping[str, Tensor]) -> None:
        self._weights = {name: module.get_parameter(name) for name in codes}
        self._masks = {name: masks[name].cpu() for name in codes if name in masks}
        #: What each weight is coded as, by parameter name.
        self.codes = dict(codes)
        #: The float weights behind the codes.
        self.latent = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._show()

    @torch.no_grad()
    def release(self) -> None:
        """Let the module hold the float weights, to be updated."""
        for name, weight in self._weights.items():
            weight.copy_(self.latent[name])

    @torch.no_grad()
    def encode(self) -> None:
        """Take the module's weights as the float ones, code them, and let the module compute with the codes again."""
        for name, weight in self._weights.items():
            self.latent[name].copy_(weight)
        self.codes = self._coded()
        self._show()

    @torch.no_grad()
    def rounded(self) -> dict[str, LevelCodes]:
        """Let the module compute with codes of the weights that it holds, which are returned and not kept."""
        found = self._coded()
        for name, codes in found.items():
            self._weights[name].copy_(codes.dequantized())
        return found

    def _coded(self) -> dict[str, LevelCodes]:
        return {
            name: refitted(weight.detach(), self.codes[name], kept=self._masks.get(name))
            for name, weight in self._weights.items()
        }

    @torch.no_grad()
    def _show(self) -> None:
        for name, weight in self._weights.items():
            weight.copy_(self.codes[name].dequantized())

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""
        return tensors_of(self.codes) | {_LATENT + name: tensor for name, tensor in self.latent.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what was kept."""
        for name, latent in self.latent.items():
            latent.copy_(tensors[_LATENT + name])
        self.take(tensors)

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Have the codes that were kept."""
        self.codes = {name: codes_from(name, codes, tensors) for name, codes in self.codes.items()}
        self._show()
