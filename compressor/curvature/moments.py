"""First and second moments of what layers see, gathered in one run over calibration images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.inputs import Seeing, columns_wanted, drawn, places_drawn, places_in, sees_all, watching
from compressor.measure.counting import evaluating

#: Part of the power that is taken for white noise, at least and where there are as few columns as features.
_LEAST, _SHRINKING = 1e-4, 0.1
#: What float32 may get wrong of second moments, as a part of them: all that there seems to be of what never varies.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Moments:
    """Of what a layer sees, on the CPU."""

    #: Of the features, (features,), float64.
    mean: Tensor
    #: Of the features, or of what a layer that sees too much makes of them, float32 and regular.
    covariance: Tensor


@dataclass
class Sums:
    """What has been seen so far of one layer."""

    count: int
    first: Tensor
    second: Tensor
    #: Makes of the features of a layer that sees too much what the second moments are of, (outputs, features).
    weight: Tensor | None = None

    @classmethod
    def none(cls, weight: Tensor) -> "Sums":
        """The sums of no columns, for a layer with this weight (outputs, features)."""
        outputs, features = weight.shape
        wide = not sees_all(features)
        width = outputs if wide else features
        first = torch.zeros(features, device=weight.device)
        return cls(0, first, torch.zeros(width, width, device=weight.device), weight.detach() if wide else None)

    def add(self, columns: Tensor) -> None:
        """Count further columns, (features, columns)."""
        self.count += columns.shape[1]
        self.first += columns.sum(1)
        made = self._made(columns)
        self.second.addmm_(made, made.T)

    def moments(self) -> Moments:
        """What these sums say of all columns."""
        mean, second = self.first / self.count, self.second / self.count
        made, rounding = self._made(mean), _ROUNDING * float(second.diagonal().mean())
        covariance = second.addr_(made, made, alpha=-1).cpu()
        if float(covariance.diagonal().mean()) <= rounding:
            covariance.zero_()
        return Moments(mean.cpu().double(), shrunk(covariance, self.count, least=rounding))

    def _made(self, features: Tensor) -> Tensor:
        return features if self.weight is None else self.weight @ features


def shrunk(covariance: Tensor, count: int, *, least: float = 0.0) -> Tensor:
    """A part of the covariance gives way to that of white noise with the same power: more for few columns.

    The noise has at least the power `least`.
    """
    width = len(covariance)
    part = max(_LEAST, _SHRINKING * min(1.0, width / count))
    noise = (part * covariance.diagonal().mean().clamp_min(1e-12)).clamp_min(least)
    return covariance.mul_(1 - part).diagonal_scatter(covariance.diagonal() + noise)


def gathered(
    module: nn.Module, layers: Mapping[str, Seeing], batches: Iterable[Tensor], *, seed: int
) -> dict[str, Sums]:
    """What each layer that is run sees unfolded; of layers that see too much, what they give out without their bias.

    Layers have one group.
    """
    sums: dict[str, Sums] = {}
    random = torch.Generator().manual_seed(seed)

    def see(name: str, x: Tensor) -> None:
        weight = layers[name].weight.flatten(1)
        places = places_drawn(places_in(layers[name], x), columns_wanted(layers[name]), random).to(x.device)
        if name not in sums:
            sums[name] = Sums.none(weight)
        sums[name].add(drawn(layers[name], x.float(), places)[0])

    with evaluating(module), watching(layers, see):
        for x in batches:
            module(x)
    return sums
