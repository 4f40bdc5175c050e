"""What this machine's processor can do with integers."""

import torch


def weight_bits() -> int:
    """How many bits of a weight this machine's integer kernels multiply exactly.

    x86 processors without VNNI add two products of uint8 and int8 in 16 bits, which saturate unless the weights leave
    a bit free; the codes then have seven.
    """
    able = torch.cpu.get_capabilities()
    if able.get("architecture") != "x86_64" or able.get("avx512_vnni") or able.get("avx_vnni"):
        return 8
    return 7
