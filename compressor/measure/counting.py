"""What a network is made of: parameters, zeros and multiply-accumulates, layer by layer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compressor.layers import own_names
from compressor.measure.formulas import UNKNOWN_TO_TORCH
from compressor.quantization.plan import QuantizationPlan
from contract.report import LayerReport

#: Names of the parameters that make a module a layer; `in_proj_weight` is that of attention.
_WEIGHTS = ("weight", "in_proj_weight")


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates for one image."""

    total: int
    #: By module name, with everything that happens inside of the module.
    by_module: Mapping[str, int]


@contextmanager
def attention_in_the_open() -> Iterator[None]:
    """Without attention's fused fast path: one opaque operator, in which nothing can be counted or be sparse."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """The module in eval mode and without gradients; every part gets its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield module
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """No parameter of the module wants a gradient; those that did want one again behind it."""
    wanting = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def count_macs(module: nn.Module, input_shape: tuple[int, int, int]) -> Macs:
    """Multiply-accumulates of convolutions and matrix products for one image of shape (C, H, W)."""
    where = next(module.parameters()).device
    counter = FlopCounterMode(display=False, custom_mapping=UNKNOWN_TO_TORCH)
    # The counter hooks into the gradients of what modules are given, and a parameter that is given as it is has none.
    with evaluating(module), without_gradients(module), attention_in_the_open(), counter:
        module(torch.zeros(1, *input_shape, device=where))
    counts = counter.get_flop_counts()
    root = type(module).__name__
    by_module = {name.removeprefix(f"{root}."): sum(ops.values()) // 2 for name, ops in counts.items() if name != root}
    return Macs(counter.get_total_flops() // 2, by_module)


def count_parameters(module: nn.Module) -> int:
    """Numbers in the parameters; a shared one counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_nonzero(module: nn.Module) -> int:
    """Numbers in the parameters that are not zero."""
    return sum(int(parameter.count_nonzero()) for parameter in module.parameters())


def layer_weights(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Every layer with a matrix or a kernel: its name, the module, the parameter's own full name and the weight."""
    first = own_names(module)
    for name, part in module.named_modules():
        for weight in _WEIGHTS:
            tensor = getattr(part, weight, None)
            if isinstance(tensor, nn.Parameter) and tensor.dim() >= 2:
                yield name, part, first[f"{name}.{weight}".removeprefix(".")], tensor


def zeros(module: nn.Module) -> float:
    """Fraction of zeros over the weights of all layers."""
    weights = [weight for *_, weight in layer_weights(module)]
    total = sum(weight.numel() for weight in weights)
    return 1 - sum(int(weight.count_nonzero()) for weight in weights) / total if total else 0.0


def layer_reports(module: nn.Module, macs: Macs, plan: QuantizationPlan) -> tuple[LayerReport, ...]:
    """Every layer as it is now."""
    return tuple(
        LayerReport(
            name=name,
            kind=type(part).__name__,
            shape=tuple(weight.shape),
            parameters=sum(p.numel() for p in part.parameters(recurse=False)),
            zeros=1 - int(weight.count_nonzero()) / weight.numel() if weight.numel() else 0.0,
            macs=macs.by_module.get(name, 0),
            bits=plan.bits(parameter),
        )
        for name, part, parameter, weight in layer_weights(module)
    )
