"""Copies of networks that are about to lose most of what would be copied."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn


def over_the_same_tensors(module: nn.Module) -> nn.Module:
    """A copy of every module, over parameters of their own that share the numbers; buffers are the same.

    Whoever narrows it puts new tensors in the place of those that it shares.
    """
    parameters = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, {**parameters, **{id(buffer): buffer for buffer in module.buffers()}})


@torch.no_grad()
def part(narrowed: nn.Module, module: nn.Module) -> None:
    """Give a network its own numbers wherever it still shares those of another."""
    shared = {_place(tensor) for tensor in chain(module.parameters(), module.buffers())}
    for parameter in narrowed.parameters():
        if _place(parameter) in shared:
            parameter.data = parameter.detach().clone()
    for owner in narrowed.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if _place(buffer) in shared:
                owner._buffers[name] = buffer.clone()


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
