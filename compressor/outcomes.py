"""What the layers of a changed network see, beside what they gave in the network as it was.

A layer that aims at what it gave there, on what it sees by now, makes up for what those before it have lost (He et al.
2017, arXiv:1707.06168, sections 3.1 and 3.2; Li et al. 2025, arXiv:2504.02692, for weights one by one). Where what it
gives is added to something else, it aims at the sum, and makes up for the rest of that too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from compressor.inputs import Seeing, columns_wanted, drawn, multiplies_only, not_finite, places_drawn
from compressor.least_squares import fitted
from compressor.passage import Passage, passed, rows_of

#: Gives the images anew, (N, C, H, W) batch by batch, where the network is.
Batches = Callable[[], Iterable[Tensor]]

#: What float32 may get wrong of products, as a part of them: all that there seems to be of what never varies.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Aim:
    """What a layer shall give."""

    #: The original network, and the layer in it.
    network: nn.Module
    layer: Seeing
    #: The numbers of those of its outputs that are aimed at; all of them where absent.
    outputs: Tensor | None = None

    def outcome(self, passage: Passage) -> Tensor:
        """What it gave a batch in the original network, (positions, outputs)."""
        made = rows_of(self.layer, self._made(passage))
        return made if self.outputs is None else made[:, self.outputs.to(made.device)]

    def _made(self, passage: Passage) -> Tensor:
        return passage.gave


@dataclass(frozen=True)
class PlainAim(Aim):
    """The same as far as the weight goes, whatever else the layer's class does, such as padding or standardizing."""

    def _made(self, passage: Passage) -> Tensor:
        layer, seen = self.layer, passage.given
        return nn.Linear.forward(layer, seen) if isinstance(layer, nn.Linear) else nn.Conv2d.forward(layer, seen)


@dataclass(frozen=True)
class Outcome:
    """Sums over positions of all images, in double precision; x are the features, y what they shall give."""

    #: (groups, features, features)
    xx: Tensor
    #: (groups, outputs, features)
    yx: Tensor
    yy: float
    #: Positions.
    count: int
    #: Whether the last feature is one everywhere.
    biased: bool

    def error(self, weight: Tensor) -> float:
        """The sum of squares that a weight (groups, outputs, features) leaves, as a part of that of y."""
        left = self.yy - 2 * float((weight * self.yx).sum()) + float(((weight @ self.xx) * weight).sum())
        return max(0.0, left) / max(self.yy, 1e-30)

    def aimed(self, weight: Tensor, h: Tensor, kept: Tensor | None = None) -> Tensor:
        """What gives nearly what is aimed at, near a weight (groups, outputs, features); zero where `kept` is false.

        `h` are the products of the features, made regular.
        """
        missing = self.yx - weight @ self.xx
        found = weight + torch.cholesky_solve(missing.mT, torch.linalg.cholesky(h)).mT
        return found if kept is None else fitted(found, kept, h, start=weight)

    @property
    def unbiased(self) -> Self:
        """The same without the feature that is one everywhere: what is left where its weight is the best."""
        if not self.biased:
            return self
        sums, total, ones = self.xx[:, :-1, -1:], self.yx[..., -1:], self.xx[:, -1:, -1:]
        xx = self.xx[:, :-1, :-1] - sums @ sums.mT / ones
        varies = _mean_square(xx) > _ROUNDING * _mean_square(self.xx[:, :-1, :-1])
        return replace(
            self,
            xx=xx * varies,
            yx=(self.yx[..., :-1] - total @ sums.mT / ones) * varies,
            yy=self.yy - float((total.square() / ones).sum()),
            biased=False,
        )

    def with_best_bias(self, weight: Tensor) -> Tensor:
        """A weight (groups, outputs, features) with the best bias for its last feature, where the layer has one."""
        if not self.biased:
            return weight
        total = self.yx[..., -1:] - weight @ self.xx[:, :-1, -1:]
        return torch.cat([weight, total / self.xx[:, -1:, -1:]], dim=2)

    @property
    def finite(self) -> bool:
        """Whether all of it are numbers."""
        return bool(self.xx.isfinite().all() and self.yx.isfinite().all())

    def and_also(self, other: Self) -> Self:
        """The sums over these positions and others; these are used up."""
        return replace(
            self,
            xx=self.xx.add_(other.xx),
            yx=self.yx.add_(other.yx),
            yy=self.yy + other.yy,
            count=self.count + other.count,
        )


def _mean_square(xx: Tensor) -> Tensor:
    """Of the features of each group: (groups, 1, 1)."""
    return xx.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]


@torch.no_grad()
def outcome(network: nn.Module, layer: Seeing, aim: Aim, batches: Iterable[Tensor], *, seed: int = 0) -> Outcome | None:
    """What a layer of a changed network sees, and its aim in the original one gives, at places drawn at random.

    None where a network does not run its layer.
    """
    total: Outcome | None = None
    for x, y in _gathered(_pairs(network, layer, aim, batches, seed)):
        yy = float(y.square().sum(dtype=torch.float64))
        seen = Outcome((x @ x.mT).double(), (y @ x.mT).double(), yy, x.shape[2], layer.bias is not None)
        total = seen if total is None else total.and_also(seen)
    return total


def outcome_as_before(network: nn.Module, original: nn.Module, name: str, batches: Iterable[Tensor]) -> Outcome | None:
    """The same of a layer, by name, that aims at what it gave itself; raises `UnfitModel` for what is no number."""
    layer, same = network.get_submodule(name), original.get_submodule(name)
    assert isinstance(layer, Seeing)
    assert isinstance(same, Seeing)
    seen = outcome(network, layer, PlainAim(original, same), batches)
    if seen is not None and not seen.finite:
        raise not_finite(name, layer=name)
    return seen


def _pairs(
    network: nn.Module, layer: Seeing, aim: Aim, batches: Iterable[Tensor], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (groups, features, positions) and what they shall give (groups, outputs, positions), by batches."""
    random = torch.Generator().manual_seed(seed)
    for batch in batches:
        now, was = passed(network, layer, batch), passed(aim.network, aim.layer, batch)
        if now is None or was is None:
            return
        wanted = aim.outcome(was)
        if now.beside is not None and was.beside is not None and multiplies_only(layer):
            wanted = wanted + now.beside.lacks(was.beside.of(aim.outputs), wanted)
        places = places_drawn(len(wanted), columns_wanted(layer), random).to(wanted.device)
        x, y = drawn(layer, now.given.float(), places), wanted[places].float().T
        if layer.bias is not None:
            x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        yield x, y.reshape(len(x), -1, y.shape[1])


def _gathered(pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same with as many positions at once as there are features, since products of fewer cost as much to add up."""
    waiting: list[tuple[Tensor, Tensor]] = []
    for pair in pairs:
        waiting.append(pair)
        if sum(x.shape[2] for x, _ in waiting) >= pair[0].shape[1]:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = (torch.cat(parts, dim=2) for parts in zip(*pairs, strict=True))
    return x, y


def rows(layer: Seeing) -> Tensor:
    """The weight of a layer as (groups, outputs, features) in double precision, a bias as its last feature."""
    weight = layer.weight.detach().flatten(1)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias.detach().unsqueeze(1)], dim=1)
    return weight.reshape(getattr(layer, "groups", 1), -1, weight.shape[1]).double()


def set_rows(layer: Seeing, found: Tensor) -> None:
    """Give a layer such a weight, and bias."""
    flat, features = found.flatten(0, 1), layer.weight[0].numel()
    layer.weight.copy_(flat[:, :features].reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(flat[:, features])
