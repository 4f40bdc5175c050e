"""The numbers of the forward and backward pass; weights, gradients of weights and updates stay float32."""

from contextlib import AbstractContextManager, nullcontext

import torch

from contract.host import instruction_set
from contract.methods import Recipe


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[object]:
    """Where this is entered, products are computed in bfloat16 if the recipe says so."""
    wanted = recipe.precision == "bf16" or (recipe.precision == "auto" and multiplies_bf16_faster(device))
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def multiplies_bf16_faster(device: torch.device) -> bool:
    """Whether the device has units that gain from bfloat16: tensor cores, or AMX.

    AVX512-BF16 alone does not pay: what products gain, conversions take.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return instruction_set() == "amx_int8"
