"""What a weight is worth: the higher its score, the later it goes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.inputs import Seeing, input_squares
from compressor.measure.counting import evaluating

_BATCH = 32


@dataclass(frozen=True)
class Look:
    """What an importance may look at."""

    module: nn.Module
    #: By parameter name.
    weights: Mapping[str, nn.Parameter]
    #: The layers of those weights, by parameter name.
    layers: Mapping[str, nn.Module]
    generator: torch.Generator
    images: Images | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    def batches(self) -> Iterator[Tensor]:
        """The images, as the network takes them."""
        if self.images is not None:
            yield from (batch.x for batch in self.images.batches(_BATCH, device=self.device))


#: From what there is to look at to a score for each weight, where the weight lies and of its shape.
Importance = Callable[[Look], dict[str, Tensor]]


def magnitude(look: Look) -> dict[str, Tensor]:
    """|w| (Han et al. 2015)."""
    return {name: weight.detach().abs() for name, weight in look.weights.items()}


def chance(look: Look) -> dict[str, Tensor]:
    """Uniform in [0, 1)."""
    return {
        # Chance is the CPU's, so that a seed means the same on every device.
        name: torch.rand(weight.shape, generator=look.generator).to(weight.device)
        for name, weight in look.weights.items()
    }


def lamp(look: Look) -> dict[str, Tensor]:
    """w^2 over the sum of all squares in its layer that are no smaller (Lee et al. 2021, equation 5)."""
    return {name: _lamp(weight.detach()) for name, weight in look.weights.items()}


def _lamp(weight: Tensor) -> Tensor:
    squares = weight.double().square().flatten()
    order = squares.argsort(descending=True)
    scores = torch.empty_like(squares)
    scores[order] = squares[order] / squares[order].cumsum(0).clamp_min(1e-300)
    return scores.view(weight.shape).float()


def taylor(look: Look) -> dict[str, Tensor]:
    """The sum over batches of |w dL/dw|, L the cross-entropy of the labels (Molchanov et al. 2017, equation 6)."""
    assert look.images is not None
    scores = {name: torch.zeros_like(weight) for name, weight in look.weights.items()}
    wanted = list(look.weights.values())
    with evaluating(look.module):
        for batch in look.images.batches(_BATCH, device=look.device):
            with torch.enable_grad():
                loss = F.cross_entropy(look.module(batch.x), batch.y)
                gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
            for (name, weight), gradient in zip(look.weights.items(), gradients, strict=True):
                if gradient is not None:
                    scores[name] += (weight.detach() * gradient).abs()
    return scores


def wanda(look: Look) -> dict[str, Tensor]:
    """|w| times the norm of the input feature that it multiplies (Sun et al. 2023, arXiv:2306.11695, equation 1)."""
    layers: dict[str, Seeing] = {name: layer for name, layer in look.layers.items() if isinstance(layer, Seeing)}
    squares = input_squares(look.module, layers, look.batches())
    return {name: _felt(look.weights[name], seen) for name, seen in squares.items()}


def _felt(weight: nn.Parameter, squares: Tensor) -> Tensor:
    groups, features = squares.shape
    # In training, convolutions have their channels last: no view has the shape of an output's features.
    rows = weight.detach().reshape(groups, -1, features)
    return (rows.abs() * squares.sqrt().to(rows.dtype).unsqueeze(1)).view(weight.shape)


IMPORTANCES: Mapping[str, Importance] = {
    "l1": magnitude,
    "random": chance,
    "lamp": lamp,
    "gradient": taylor,
    "wanda": wanda,
}
