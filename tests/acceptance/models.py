"""Networks to upload: the library's own, with weights drawn here."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from compressor.models.architectures import build
from contract.model import Architecture

#: As small as the networks allow, so that the suite stays quick.
INPUT = {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def architecture(name: str, **options: int) -> dict[str, object]:
    """An architecture of torchvision as a creation body names it."""
    return {"library": "torchvision", "name": name, "options": options}


def weights_file(folder: Path, name: str, **options: int) -> Path:
    """A safetensors file with seeded random weights of a torchvision architecture."""
    path = folder / f"{name}-{'-'.join(f'{k}{v}' for k, v in options.items())}.safetensors"
    torch.manual_seed(0)
    module = build(Architecture(name=name, options=options), device="cpu", seed=0)
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
    return path
