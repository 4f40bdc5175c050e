"""What layers see: inputs of convolutions and linear layers, unfolded so that each output is a product with them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.attention import ATTENTION
from compressor.layers import weighted_modules
from compressor.measure.counting import evaluating
from contract.failures import UnfitModel

#: Layers whose outputs are plain products of a weight with what they see.
Seeing = nn.Linear | nn.Conv2d

#: Products of the features of layers that see more numbers at once are too many to keep.
_WIDEST = 6144

#: Of one batch a layer looks at so many columns, or at so many for each feature where that is more.
_COLUMNS, _FOR_EACH = 512, 0.5


#: Some subclasses pad what they see, or standardize their weight.
_PLAIN = (nn.Linear.forward, nn.Conv2d.forward)


def multiplies_only(layer: nn.Module) -> bool:
    """Whether a layer does nothing but multiply what it sees with its weight, and add its bias."""
    return isinstance(layer, Seeing) and type(layer).forward in _PLAIN


def sees(layer: nn.Module) -> bool:
    """Whether a layer's inputs can be unfolded here."""
    return isinstance(layer, nn.Linear | nn.Conv2d) and (
        not isinstance(layer, nn.Conv2d) or (layer.padding_mode == "zeros" and not isinstance(layer.padding, str))
    )


def sees_all(features: int) -> bool:
    """Whether products of so many features can be kept."""
    return features <= _WIDEST


def unfolded(layer: Seeing, x: Tensor) -> Tensor:
    """The columns that the layer's weight is multiplied with: (groups, features, positions).

    A convolution's features are (input channel, kernel row, kernel column) of one group, in the weight's order.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, layer.in_features).T.unsqueeze(0)
    columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    images, _, positions = columns.shape
    grouped = columns.view(images, layer.groups, -1, positions)
    return grouped.permute(1, 2, 0, 3).reshape(layer.groups, grouped.shape[2], images * positions)


def columns_wanted(layer: Seeing) -> int:
    """How many of the columns of one batch are enough, drawn at random."""
    return max(_COLUMNS, int(_FOR_EACH * layer.weight[0].numel()))


def places_drawn(among: int, count: int, random: torch.Generator) -> Tensor:
    """At most `count` of so many places, without repeats."""
    return torch.randperm(among, generator=random)[:count]


def places_in(layer: Seeing, x: Tensor) -> int:
    """How many columns a layer sees in `x`, counted image by image and row by row."""
    if isinstance(layer, nn.Linear):
        return x.numel() // layer.in_features
    return len(x) * _Axis.of(layer, x, 0).count * _Axis.of(layer, x, 1).count


def drawn(layer: Seeing, x: Tensor, places: Tensor) -> Tensor:
    """Those of the columns of `unfolded` at some places: (groups, features, places)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, layer.in_features)[places].T.unsqueeze(0)
    down, across = (_Axis.of(layer, x, axis) for axis in (0, 1))
    padded = F.pad(x, (across.padding, across.padding, down.padding, down.padding))
    place, column = places // across.count, places % across.count
    image, row = place // down.count, place % down.count
    channels = torch.arange(x.shape[1], device=x.device)
    patches = padded[
        image.view(-1, 1, 1, 1), channels.view(1, -1, 1, 1), down.seen(row)[:, None, :, None],
        across.seen(column)[:, None, None, :],
    ]  # fmt: skip
    return patches.reshape(len(places), layer.groups, -1).permute(1, 2, 0)


@dataclass(frozen=True)
class _Axis:
    """How a kernel goes over the rows of an image, or over its columns."""

    size: int
    stride: int
    padding: int
    dilation: int
    #: How many places it has.
    count: int

    @classmethod
    def of(cls, layer: nn.Conv2d, x: Tensor, axis: int) -> Self:
        size, stride, dilation = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
        padding = int(layer.padding[axis])
        count = (x.shape[2 + axis] + 2 * padding - dilation * (size - 1) - 1) // stride + 1
        return cls(size, stride, padding, dilation, count)

    def seen(self, places: Tensor) -> Tensor:
        """Where the kernel's entries lie in the padded image, (places, size)."""
        offsets = torch.arange(self.size, device=places.device) * self.dilation
        return places.unsqueeze(1) * self.stride + offsets


#: Of the mean of a product's diagonal: what is added to the diagonal, so that few images do not make it singular.
DAMPING = 0.01


class _Seen(Exception):
    """A layer has seen what was looked for: what comes behind it need not run."""


@contextmanager
def watching(layers: Mapping[str, nn.Module], see: Callable[..., None]) -> Iterator[None]:
    """Within this block each run of one of the layers is told, with its name and its first argument, if it has one."""

    def hook(name: str) -> Callable[..., None]:
        return lambda layer, args, kwargs: see(name, *[*args, *kwargs.values()][:1])

    handles = [layer.register_forward_pre_hook(hook(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def in_order_of_run(module: nn.Module, names: Iterable[str], input_shape: tuple[int, int, int]) -> list[str]:
    """Names of modules in the order in which the network first runs them; behind them those that it does not run."""
    names = list(names)
    places = _places(module, names, input_shape)
    return sorted(names, key=lambda name: places.get(name, len(places)))


def ends(module: nn.Module, input_shape: tuple[int, int, int]) -> set[str]:
    """The first and the last of the layers with weights that the network runs."""
    places = _places(module, weighted_modules(module), input_shape)
    ordered = sorted(places, key=places.__getitem__)
    return {*ordered[:1], *ordered[-1:]}


def _places(module: nn.Module, names: Iterable[str], input_shape: tuple[int, int, int]) -> dict[str, int]:
    """When the network first runs each of the named modules that it does run, by their names.

    Torch's attention computes `out_proj` itself, so that runs when the attention does.
    """
    runners = {name: _runner(module, name) for name in names}
    seen = {part: place for place, part in enumerate(ran(module, set(runners.values()), input_shape))}
    return {name: seen[runner] for name, runner in runners.items() if runner in seen}


def _runner(module: nn.Module, name: str) -> str:
    """The module that is called where a module runs."""
    owner = name.rpartition(".")[0]
    return owner if isinstance(module.get_submodule(owner), ATTENTION) else name


def ran(module: nn.Module, names: Iterable[str], input_shape: tuple[int, int, int]) -> list[str]:
    """Those of the named modules that the network runs on an image, in the order in which it first does."""
    layers = {name: module.get_submodule(name) for name in names}
    seen: dict[str, None] = {}
    where = next(module.parameters()).device
    with evaluating(module), watching(layers, lambda name, *_: seen.setdefault(name)):
        module(torch.zeros(1, *input_shape, device=where))
    return list(seen)


def input_squares(module: nn.Module, layers: Mapping[str, Seeing], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """For each layer that is run, the sums of squares of its features, (groups, features), in one pass."""
    sums: dict[str, Tensor] = {}

    def see(name: str, x: Tensor) -> None:
        squares = unfolded(layers[name], x).double().square().sum(2)
        sums[name] = sums[name] + squares if name in sums else squares

    with evaluating(module), watching(layers, see):
        for x in batches:
            module(x)
    return sums


def first_not_finite(module: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[Tensor]) -> str | None:
    """The first of the layers, as they run, that is given NaN or infinity; none where all are given numbers."""
    found: list[str] = []

    def see(name: str, *x: Tensor) -> None:
        if not all(part.isfinite().all() for part in x):
            found.append(name)
            raise _Seen

    with evaluating(module), watching(layers, see), suppress(_Seen):
        for x in batches:
            module(x)
    return found[0] if found else None


def not_finite(place: str, *, layer: str | None) -> UnfitModel:
    """What is raised for NaN or infinity at a place of the network."""
    return UnfitModel(f"The activations at {place} are not finite on the calibration images.", layer=layer)


def damped(products: Tensor) -> Tensor:
    """H of (groups, features, features), regular; features that were never seen get the mean diagonal."""
    diagonal = products.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True).clamp_min(1e-12)
    return products + torch.diag_embed(torch.where(diagonal <= 0, mean, DAMPING * mean))
