"""What channels and heads are worth: for each group of what only goes together, one score each.

How what single weights are worth becomes what a channel is worth, over all the layers that share it, is Torch-Pruning's
(mean over layers of sums over weights). What weights are worth is ours: the library's Hessian keeps the last image's
gradients only, and its FPGM compares magnitudes where the paper compares filters.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.measure.counting import evaluating
from compressor.pruning.gates import cost_of_parts, derivatives_by_gates
from compressor.pruning.heads import Heads, all_heads
from compressor.pruning.surgery import Surgeon

_BATCH = 32


@dataclass(frozen=True)
class Importance:
    """One way to tell; neither function has an answer where nothing of what it is given has any."""

    #: From a group of Torch-Pruning to scores of shape (channels,).
    of_channels: Callable[[tp.dependency.Group], Tensor | None]
    #: From an attention's heads to scores of shape (heads,).
    of_heads: Callable[[Heads], Tensor | None]


@dataclass(frozen=True)
class Shown:
    """What an importance may look at: a network, its dependencies, images."""

    network: nn.Module
    graph: tp.DependencyGraph
    seed: int = 0
    images: Images | None = None

    def batches(self, size: int = _BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels, where the network is."""
        device = next(self.network.parameters()).device
        if self.images is not None:
            for batch in self.images.batches(size, device=device):
                yield batch.x, batch.y

    def inputs(self) -> Iterator[Tensor]:
        """The images alone."""
        return (x for x, _ in self.batches())

    def gradients(self, x: Tensor, y: Tensor) -> dict[nn.Parameter, Tensor]:
        """Of the summed cross-entropy of some images; of zeros where the network does not use a parameter."""
        parameters = list(self.network.parameters())
        with evaluating(self.network), torch.enable_grad():
            loss = F.cross_entropy(self.network(x), y, reduction="sum")
            found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return dict(zip(parameters, found, strict=True))


# --- By weight


#: What each of a parameter's numbers is worth.
Worth = Callable[[nn.Parameter], Tensor]


def _over_weights(worth: Worth) -> Importance:
    """Sums of what the weights of a channel or a head are worth, mean over the layers that share it."""
    summed = tp.importance.GroupMagnitudeImportance(p=1, normalizer=None)

    def of_channels(group: tp.dependency.Group) -> Tensor | None:
        layers = [dep.target.module for dep, _ in group if isinstance(dep.target.module, nn.Module)]
        with _in_place_of_weights({p for layer in layers for p in layer.parameters(recurse=False)}, worth):
            scores: Tensor | None = summed(group)
        return scores

    return Importance(of_channels, lambda heads: _over_parts(heads, worth))


def _powers(power: int, *, normalizer: str | None = None) -> Importance:
    """The same of |w|^power, which the library can do by itself."""
    summed = tp.importance.GroupMagnitudeImportance(p=power, normalizer=normalizer)
    return Importance(summed, lambda heads: _over_parts(heads, lambda p: p.detach().abs().pow(power)))


def _over_parts(heads: Heads, worth: Worth) -> Tensor:
    given, taken = heads.parts(worth(heads.given), worth(heads.taken))
    return torch.cat([given.sum(2), taken.sum(1, keepdim=True)], dim=1).mean(1)


@contextmanager
def _in_place_of_weights(parameters: Collection[nn.Parameter], worth: Worth) -> Iterator[None]:
    kept = {parameter: parameter.data for parameter in parameters}
    try:
        for parameter in parameters:
            parameter.data = worth(parameter)
        yield
    finally:
        for parameter, tensor in kept.items():
            parameter.data = tensor


def _magnitude(_: Shown) -> Importance:
    return _powers(1)


def _square(_: Shown) -> Importance:
    return _powers(2)


def _lamp(_: Shown) -> Importance:
    """A channel's squares over those of all channels of its group that have no less (Lee et al. 2021, equation 5)."""
    return _powers(2, normalizer="lamp")


def _taylor(shown: Shown) -> Importance:
    """|w dL/dw| (Molchanov et al. 2019, equation 8)."""
    total = {p: torch.zeros_like(p) for p in shown.network.parameters()}
    for x, y in shown.batches():
        for parameter, gradient in shown.gradients(x, y).items():
            total[parameter] += gradient
    return _over_weights(lambda p: (p.detach() * total[p]).abs())


def _hessian(shown: Shown) -> Importance:
    """w^2 H / 2, H the mean of squared gradients of single images (LeCun et al. 1990, with Fisher's approximation)."""
    total, count = {p: torch.zeros_like(p) for p in shown.network.parameters()}, 0
    for x, y in shown.batches():
        for image, label in zip(torch.split(x, 1), torch.split(y, 1), strict=True):
            count += 1
            for parameter, gradient in shown.gradients(image, label).items():
                total[parameter] += gradient.square()
    return _over_weights(lambda p: p.detach().square() * total[p] / (2 * max(count, 1)))


# --- By channel, by head


def _fisher(shown: Shown) -> Importance:
    """What the loss rises by without the channel: half the mean square of its derivative by a gate on it (`gates`)."""
    by_layer = derivatives_by_gates(shown.network, shown.inputs(), seed=shown.seed)

    def of_channels(group: tp.dependency.Group) -> Tensor | None:
        found = [by_layer[layer][:, inputs] for layer, inputs in _takers(shown, group) if layer in by_layer]
        return cost_of_parts(found, len(group[0].idxs)) if found else None

    def of_heads(heads: Heads) -> Tensor | None:
        seen = by_layer.get(heads.taker)
        return None if seen is None else cost_of_parts([seen], heads.count)

    return Importance(of_channels, of_heads)


def _obs(shown: Shown) -> Importance:
    """What the loss rises by without the channel where those that are left make up for it (`surgery`)."""
    surgeon = Surgeon.of(shown.network, shown.inputs, seed=shown.seed)
    return Importance(
        lambda group: surgeon.worth(list(_takers(shown, group)), len(group[0].idxs)),
        lambda heads: surgeon.worth([(heads.taker, torch.arange(heads.count * heads.width))], heads.count),
    )


def _takers(shown: Shown, group: tp.dependency.Group) -> Iterator[tuple[nn.Module, Tensor]]:
    """The layers that take a group's channels, each with the numbers of those of its inputs that they are."""
    for dep, places in group:
        gives = shown.graph.is_out_channel_pruning_fn(dep.handler)
        if isinstance(dep.target.module, nn.Module) and not gives and len(places) % len(group[0].idxs) == 0:
            yield dep.target.module, torch.as_tensor(places)


def _over_layers(
    shown: Shown, worth: Mapping[nn.Module, Tensor], *, of_heads: Callable[[Heads], Tensor | None]
) -> Importance:
    """The mean over those layers of a group that give its channels out and have a worth for each."""

    def of_channels(group: tp.dependency.Group) -> Tensor | None:
        count = len(group[0].idxs)
        found = [
            worth[dep.target.module][torch.as_tensor(places)]
            for dep, places in group
            if dep.target.module in worth
            and shown.graph.is_out_channel_pruning_fn(dep.handler)
            and len(places) == count
        ]
        return torch.stack(found).mean(0) if found else None

    return Importance(of_channels, of_heads)


def _none_of_heads(heads: Heads) -> None:
    del heads


def _scales(shown: Shown) -> Importance:
    """|gamma| of a channel's batch normalizations; groups without any stay as they are, and so do heads."""
    parts = [p for p in shown.network.modules() if isinstance(p, nn.modules.batchnorm._BatchNorm)]
    scales: dict[nn.Module, Tensor] = {p: p.weight.detach().abs() for p in parts if p.weight is not None}
    return _over_layers(shown, scales, of_heads=_none_of_heads)


def _distances(shown: Shown) -> Importance:
    """How far a filter is from all others of its layer: one near their geometric median can be made up for (FPGM)."""
    layers = [p for p in shown.network.modules() if isinstance(p, nn.Conv2d | nn.Linear)]
    distances: dict[nn.Module, Tensor] = {layer: _apart(layer.weight.detach().flatten(1)) for layer in layers}
    return _over_layers(shown, distances, of_heads=_heads_apart)


def _heads_apart(heads: Heads) -> Tensor:
    given, taken = heads.parts(heads.given.detach(), heads.taken.detach())
    return _apart(torch.cat([given.flatten(1), taken], dim=1))


def _apart(filters: Tensor) -> Tensor:
    return torch.cdist(filters.unsqueeze(0), filters.unsqueeze(0)).squeeze(0).sum(1)


def _activation(shown: Shown) -> Importance:
    """The mean magnitude of what a channel's layers, or a head, give out, over images and positions."""
    given, seen = _Magnitudes(), _Magnitudes()
    giving = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)
    handles = [p.register_forward_hook(given.see_output) for p in shown.network.modules() if isinstance(p, giving)]
    handles += [heads.taker.register_forward_pre_hook(seen.see_input) for heads in all_heads(shown.network)]
    try:
        with evaluating(shown.network):
            for x in shown.inputs():
                shown.network(x)
    finally:
        for handle in handles:
            handle.remove()
    return _over_layers(shown, given.sums, of_heads=lambda heads: seen.sums[heads.taker].view(heads.count, -1).mean(1))


class _Magnitudes:
    """Mean magnitudes by channel of what passes by, summed over batches."""

    def __init__(self) -> None:
        self.sums: dict[nn.Module, Tensor] = {}

    def see_output(self, layer: nn.Module, _: object, output: Tensor) -> None:
        self._see(layer, output)

    def see_input(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._see(layer, args[0])

    def _see(self, layer: nn.Module, x: Tensor) -> None:
        dimension = x.dim() - 1 if isinstance(layer, nn.Linear) else 1
        by_channel = x.detach().abs().movedim(dimension, 0).flatten(1).mean(1)
        self.sums[layer] = self.sums[layer] + by_channel if layer in self.sums else by_channel


def _chance(shown: Shown) -> Importance:
    generator = torch.Generator().manual_seed(shown.seed % 2**63)
    return Importance(
        lambda group: torch.rand(len(group[0].idxs), generator=generator),
        lambda heads: torch.rand(heads.count, generator=generator),
    )


IMPORTANCES: Mapping[str, Callable[[Shown], Importance]] = {
    "l1": _magnitude,
    "l2": _square,
    "lamp": _lamp,
    "taylor": _taylor,
    "hessian": _hessian,
    "fisher": _fisher,
    "obs": _obs,
    "bn_scale": _scales,
    "fpgm": _distances,
    "activation": _activation,
    "random": _chance,
}
