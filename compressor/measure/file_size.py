"""How long a safetensors file is, told from names and shapes without writing it."""

import json

import torch
from torch import Tensor, nn

_NAMES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}


def safetensors_bytes(module: nn.Module) -> int:
    """Bytes of the file with everything in the network's state_dict; a shared tensor is in it once.

    Eight bytes say how long the header is, the header names each tensor and where it lies and is padded to a multiple
    of eight, and the tensors follow (the format's own description at huggingface/safetensors). Raises KeyError for a
    dtype that networks are not built with.
    """
    tensors = _once(module)
    # The widest dtype comes first, so that all tensors are aligned; within one they are sorted by name.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": _NAMES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    told = len(json.dumps(header, separators=(",", ":")))
    return 8 + told + -told % 8 + end


def _once(module: nn.Module) -> dict[str, Tensor]:
    first = {id(tensor): name for name, tensor in reversed(module.state_dict(keep_vars=True).items())}
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if first[id(tensor)] == name}
