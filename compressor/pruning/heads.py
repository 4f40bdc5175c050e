"""Attention heads: what they are made of, and how some are removed (Michel et al. 2019, arXiv:1905.10650)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.attending import attending_to_itself
from compressor.attention import SelfAttention
from compressor.pruning.copying import over_the_same_tensors

#: The one of timm's whose width is not tied to the embedding's; others are told by it apart, and stay as they are.
_TIMM = ("timm.layers.attention", "Attention")


@dataclass(frozen=True)
class Heads:
    """The heads of one attention."""

    attention: nn.Module
    count: int
    #: Features of each head.
    width: int
    #: The layer that gives queries, keys and values out, and what its parameters are called.
    giver: nn.Module
    weight_name: str
    bias_name: str
    #: The layer that takes what the heads have seen.
    taker: nn.Linear

    @property
    def given(self) -> nn.Parameter:
        """Queries, keys and values of all heads: (3 * count * width, embedding)."""
        return self.giver.get_parameter(self.weight_name)

    @property
    def taken(self) -> nn.Parameter:
        """What the taker multiplies what the heads have seen with: (embedding, count * width)."""
        return self.taker.get_parameter("weight")

    def parts(self, given: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        """What of two tensors shaped as the weights belongs to each head: (count, 3, numbers) and (count, numbers)."""
        shape = (3, self.count, self.width, -1)
        return (
            given.reshape(shape).transpose(0, 1).flatten(2),
            taken.reshape(-1, self.count, self.width).transpose(0, 1).flatten(1),
        )

    @torch.no_grad()
    def remove(self, gone: Collection[int]) -> list[int]:
        """Remove heads by their numbers; the outputs of the giver that went with them."""
        kept = [head for head in range(self.count) if head not in gone]
        places = torch.arange(self.count * self.width).view(self.count, self.width)[kept].flatten()
        rows = torch.cat([places + part * self.count * self.width for part in range(3)])
        _keep(self.giver, self.weight_name, rows, dimension=0)
        _keep(self.giver, self.bias_name, rows, dimension=0)
        _keep(self.taker, "weight", places, dimension=1)
        self.taker.in_features = len(places)
        if isinstance(self.giver, nn.Linear):
            self.giver.out_features = len(rows)
            self.attention.attn_dim = len(places)  # type: ignore[assignment]
        self.attention.num_heads = len(kept)  # type: ignore[assignment]
        return sorted(set(range(3 * self.count * self.width)) - set(rows.tolist()))


def _keep(layer: nn.Module, name: str, places: Tensor, *, dimension: int) -> None:
    old = getattr(layer, name)
    if old is not None:
        smaller = old.detach().index_select(dimension, places.to(old.device))
        setattr(layer, name, nn.Parameter(smaller, requires_grad=old.requires_grad))


def all_heads(network: nn.Module) -> Iterator[Heads]:
    """The heads of every attention that can do with fewer."""
    for part in network.modules():
        if isinstance(part, SelfAttention):
            yield Heads(part, part.num_heads, part.head_dim, part, "in_proj_weight", "in_proj_bias", part.out_proj)
        elif (type(part).__module__, type(part).__name__) == _TIMM and _is_plain(part):
            yield Heads(part, int(part.num_heads), int(part.head_dim), part.qkv, "weight", "bias", part.proj)  # type: ignore[arg-type]


def _is_plain(part: nn.Module) -> bool:
    """Whether no scale or gate over all heads lies behind timm's attention, and its projections are one layer each."""
    single = isinstance(part.qkv, nn.Linear) and isinstance(part.proj, nn.Linear)
    return single and isinstance(part.norm, nn.Identity) and getattr(part, "gate", None) is None


def unfuse(network: nn.Module, example: Tensor, *, fixed: Collection[str]) -> None:
    """Put `SelfAttention` in the place of torch's own wherever the network, run on `example`, attends to itself.

    Attention that is named in `fixed` stays.
    """
    if not any(isinstance(part, nn.MultiheadAttention) for part in network.modules()):
        return
    alone = attending_to_itself(network, example)
    for name, part in list(network.named_modules()):
        if part in alone and name not in fixed:
            assert isinstance(part, nn.MultiheadAttention)
            network.set_submodule(name, SelfAttention.of(part))


def unfused_like(module: nn.Module, other: nn.Module) -> nn.Module:
    """The network, over parameters that share its numbers, with `SelfAttention` wherever `other` has it."""
    network = over_the_same_tensors(module)
    for name, part in list(network.named_modules()):
        if isinstance(part, nn.MultiheadAttention) and isinstance(other.get_submodule(name), SelfAttention):
            network.set_submodule(name, SelfAttention.of(part))
    return network
