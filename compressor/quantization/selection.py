"""Which weights a quantizing step takes, and what it has to say about those that it leaves."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import nn
from torch.fx import GraphModule

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matches, matching, own_weights, weighted_modules
from compressor.quantization.integers import WeightCodes
from compressor.quantization.plan import Stored
from compressor.quantization.processor import INTEGERS, here, weight_bits
from compressor.quantization.products import Product, products
from contract.failures import AlreadyQuantized, NothingToQuantize
from contract.methods.quantize import Processor

#: Part of the parameters below which quantizing them changes little.
_LITTLE = 0.05


class Patterns(Protocol):
    """Params that choose layers by name."""

    @property
    def include(self) -> Sequence[str]: ...
    @property
    def exclude(self) -> Sequence[str]: ...


def check(module: nn.Module, patterns: Patterns, *, kinds: tuple[type[nn.Module], ...], method: str) -> None:
    """Say within milliseconds what `selected` would say, as far as the modules' classes tell it."""
    names = [name for name, part in weighted_modules(module).items() if isinstance(part, kinds)]
    if not names:
        raise NothingToQuantize(f"{method} finds no layer of a kind that it quantizes.")
    matching(names, include=patterns.include, exclude=patterns.exclude)


def selected(
    candidate: Candidate,
    graph: GraphModule,
    patterns: Patterns,
    *,
    kinds: frozenset[str],
    beside: Collection[str] = (),
) -> tuple[Product, ...]:
    """The products of these kinds whose layers the patterns mean, in the order in which they run.

    Weights in `beside` keep the codes that they have, and are left out. Raises NothingToQuantize, NoLayerMatches, and
    AlreadyQuantized where an earlier step has given another one its codes.
    """
    found = [product for product in products(graph) if product.kind in kinds]
    if not found:
        raise NothingToQuantize("No layer of a kind that can be quantized is reached from the input.")
    names = list(dict.fromkeys(product.layer for product in found))
    wanted = set(matching(names, include=patterns.include, exclude=patterns.exclude))
    for product in found:
        if product.layer in wanted and product.parameter in candidate.plan.weights.keys() - set(beside):
            raise AlreadyQuantized(f"{product.layer} has its codes from an earlier step.", layer=product.layer)
    return tuple(p for p in found if p.layer in wanted and p.parameter not in beside)


def replace_weights(module: nn.Module, stored: Mapping[str, Stored]) -> None:
    """Let the module's own weights be what is stored of them."""
    with torch.no_grad():
        for name, weight in stored.items():
            module.get_parameter(name).copy_(weight.dequantized())


def report(candidate: Candidate, codes: Mapping[str, WeightCodes], context: Context) -> None:
    """Record which layers got codes, and warn where they are few or some were left alone."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in codes))
    share = sum(weight.codes.numel() for weight in codes.values()) / _parameters(candidate.module)
    context.record("layers", list(layers))
    context.record("share_of_parameters", round(share, 6))
    context.record("weight_bits", max(weight.bits for weight in codes.values()))
    if share < _LITTLE:
        context.notice(
            "little_to_quantize",
            f"Only {share:.2%} of the parameters are quantized: those of {', '.join(layers[:4])}"
            f"{' and others' if len(layers) > 4 else ''}.",
        )


def report_target(target: Processor, context: Context) -> None:
    """Record the processor that codes are for, and warn where it is not this one."""
    context.record("target", target)
    if target != here():
        finer = INTEGERS[target].weight_bits > weight_bits()
        saturating = " Sums of codes so fine saturate here, so that accuracy there may be better than measured here."
        context.notice(
            "other_target",
            f"The codes are for {target} and this worker is {here()}: no time measured here tells one there."
            f"{saturating if finer else ''}",
        )


def report_rest(candidate: Candidate, chosen: Collection[Product], patterns: Patterns, context: Context) -> None:
    """Record and warn of the layers that the patterns mean and that stay float."""
    taken = {product.parameter for product in chosen} | candidate.plan.integers.keys()
    left = [
        name
        for name, weights in own_weights(candidate.module).items()
        if taken.isdisjoint(weights) and matches(name, include=patterns.include, exclude=patterns.exclude)
    ]
    if left:
        context.record("layers_left_float", list(left))
        told = f"No integer kernel serves {', '.join(left[:4])}: they are computed in float32."
        context.notice("layers_left_alone", told)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
