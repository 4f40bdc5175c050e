"""What processors can do with integers."""

from dataclasses import dataclass

import torch

from contract.methods.quantize import Processor, Target


@dataclass(frozen=True)
class Integers:
    """The integers that a processor multiplies exactly, and fastest."""

    weight_bits: int
    #: Whether activations are int8; uint8 otherwise.
    signed: bool


#: x86 processors without VNNI add two products of uint8 and int8 in 16 bits, which saturate unless the weights leave a
#: bit free; the codes then have seven.
INTEGERS: dict[Processor, Integers] = {
    "x86-vnni": Integers(weight_bits=8, signed=False),
    "x86-avx2": Integers(weight_bits=7, signed=False),
    "arm64": Integers(weight_bits=8, signed=True),
}


def here() -> Processor:
    """This machine's kind."""
    able = torch.cpu.get_capabilities()
    if able.get("architecture") in ("aarch64", "arm64"):
        return "arm64"
    if able.get("architecture") != "x86_64" or able.get("avx512_vnni") or able.get("avx_vnni"):
        return "x86-vnni"
    return "x86-avx2"


def meant(target: Target) -> Processor:
    """The processor that a target names; `auto` is this machine's kind."""
    return here() if target == "auto" else target


def weight_bits() -> int:
    """How many bits of a weight this machine's integer kernels multiply exactly."""
    return INTEGERS[here()].weight_bits
