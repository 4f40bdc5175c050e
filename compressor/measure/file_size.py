"""How long a safetensors file is, told from names and shapes without writing it."""

import json
from collections.abc import Mapping
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from contract.cost import CHANNELS, CLASSES, TensorsFile

_NAMES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}


def safetensors_bytes(module: nn.Module) -> int:
    """Bytes of the file with everything in the network's state_dict; a shared tensor is in it once.

    Eight bytes say how long the header is, the header names each tensor and where it lies and is padded to a multiple
    of eight, and the tensors follow (the format's own description at huggingface/safetensors). Raises KeyError for a
    dtype that networks are not built with.
    """
    tensors = _in_order(module)
    told = _length_of_header(tensors)
    return 8 + told + -told % 8 + sum(map(_bytes, tensors.values()))


def tensors_file(module: nn.Module, fewer: nn.Module, *, channels: int, classes: int) -> TensorsFile:
    """What its length with other channels and classes follows from, told by the same network with fewer of both.

    `module` is for `CHANNELS` and `CLASSES`, and `fewer` for `channels` and `classes`.
    """
    tensors, others = _in_order(module), _in_order(fewer)
    pairs = [(_bytes(tensor), _bytes(others[name])) for name, tensor in tensors.items()]
    per_class = tuple(n for n, (many, few) in enumerate(pairs) if many != few and many * classes == few * CLASSES)
    return TensorsFile(
        header=_length_of_header(tensors) - _digits(tensors) - len(per_class) * len(str(CLASSES)),
        tensors=tuple(many for many, _ in pairs),
        per_class=per_class,
        per_channel=tuple(n for n, (many, few) in enumerate(pairs) if many * channels == few * CHANNELS),
    )


def _length_of_header(tensors: Mapping[str, Tensor]) -> int:
    header = {
        name: {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        for (name, tensor), offsets in zip(tensors.items(), _offsets(tensors), strict=True)
    }
    return len(json.dumps(header, separators=(",", ":")))


def _offsets(tensors: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """Where each tensor begins and ends."""
    return list(pairwise(accumulate(map(_bytes, tensors.values()), initial=0)))


def _digits(tensors: Mapping[str, Tensor]) -> int:
    return sum(len(str(offset)) for offsets in _offsets(tensors) for offset in offsets)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _in_order(module: nn.Module) -> dict[str, Tensor]:
    """The widest dtype comes first, so that all tensors are aligned; within one they are sorted by name."""
    tensors = _once(module)
    return {name: tensors[name] for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))}


def _once(module: nn.Module) -> dict[str, Tensor]:
    first = {id(tensor): name for name, tensor in reversed(module.state_dict(keep_vars=True).items())}
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if first[id(tensor)] == name}
