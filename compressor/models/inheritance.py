"""What a network may begin with of another one of its family: the layers that both have.

Layers copied from a teacher are a better beginning than chance (DistilBERT, Sanh et al. 2019, section 3, takes every
second one; here those of the same name are taken).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Inheritance:
    """How much was taken."""

    tensors: int
    #: Numbers in the parameters that were taken, and in all of them.
    parameters: int
    of_parameters: int


@torch.no_grad()
def inherit(heir: nn.Module, giver: nn.Module) -> Inheritance:
    """Copy every layer of the same name, kind and shapes, within modules that are of the same kind themselves.

    Two networks of different kinds share nothing, for a layer of the same name means something else in them.
    """
    taken = [(ours, theirs) for a, b in _alike(heir, giver) for ours, theirs in _tensors(a, b)]
    for ours, theirs in taken:
        ours.copy_(theirs)
    return Inheritance(
        tensors=len(taken),
        parameters=sum(ours.numel() for ours, _ in taken if isinstance(ours, nn.Parameter)),
        of_parameters=sum(parameter.numel() for parameter in heir.parameters()),
    )


def _alike(heir: nn.Module, giver: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    if type(heir) is not type(giver):
        return
    if _shapes(heir) == _shapes(giver):
        yield heir, giver
    others = dict(giver.named_children())
    for name, child in heir.named_children():
        if name in others:
            yield from _alike(child, others[name])


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _own(module)}


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _tensors(heir: nn.Module, giver: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    theirs = dict(_own(giver))
    return ((tensor, theirs[name]) for name, tensor in _own(heir))
