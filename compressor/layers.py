"""The layers of a network: which modules have weights that methods work on, and which of them patterns mean."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from compressor.attention import ATTENTION
from contract.failures import NoLayerMatches

T = TypeVar("T")

#: How many names a sentence gives as examples.
_TOLD = 4

_WEIGHTED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Linear, nn.Bilinear, nn.RNNBase, *ATTENTION,
)  # fmt: skip


def weighted_modules(module: nn.Module) -> dict[str, nn.Module]:
    """Modules with weight matrices of their own, by name: convolutions, linear and recurrent layers, attention."""
    return {name: part for name, part in module.named_modules() if isinstance(part, _WEIGHTED)}


def weight_names(module: nn.Module) -> Iterator[str]:
    """Names of a module's own weight matrices, such as `weight`, `weight_ih_l0` or `in_proj_weight`."""
    return (name for name, own in module.named_parameters(recurse=False) if own.dim() > 1 and "weight" in name)


def own_names(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter the first one that it has: layers that share a weight know it by several."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    return {name: first[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}


def own_weights(module: nn.Module) -> dict[str, list[str]]:
    """The first names of the weight matrices of every module that has some, by the module's name."""
    first = own_names(module)
    return {
        layer: [first[f"{layer}.{name}".removeprefix(".")] for name in weight_names(part)]
        for layer, part in weighted_modules(module).items()
    }


def matching_weights(module: nn.Module, *, include: Sequence[str], exclude: Sequence[str]) -> dict[str, str]:
    """The modules that the patterns mean, by the names of their weight matrices; one that two layers share once.

    Raises `NoLayerMatches`.
    """
    weights, found = own_weights(module), dict[str, str]()
    for layer in matching(list(weights), include=include, exclude=exclude):
        for name in weights[layer]:
            found.setdefault(name, layer)
    return found


def matches(name: str, *, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether patterns mean the module of this name; a pattern that names a block means all that is in it."""

    def among(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)

    return among(include) and not among(exclude)


def first_meant(name: str, by_pattern: Mapping[str, T]) -> T | None:
    """What stands by the first pattern that means the module of this name."""
    return next((value for p, value in by_pattern.items() if matches(name, include=(p,), exclude=())), None)


def matching(
    names: Sequence[str], *, include: Sequence[str], exclude: Sequence[str], pointer: str = "/include"
) -> list[str]:
    """The names that the patterns mean; raises `NoLayerMatches`, with the nearest names, where they mean none.

    `pointer` says where in the params the patterns stand.
    """
    found = [name for name in names if matches(name, include=include, exclude=exclude)]
    if not found:
        near = [close for p in include for close in get_close_matches(p, names, n=2, cutoff=0.4)]
        hint = f" Near to it: {', '.join(near[:4])}." if near else f" There are {_listed(names)}."
        left = " that exclude leaves" if exclude else ""
        raise NoLayerMatches(f"No layer{left} matches {', '.join(include)}.{hint}", pointer=pointer)
    return found


def _listed(names: Sequence[str]) -> str:
    """The first names; a network's own parameters have a module without one."""
    named = [name for name in names if name]
    return ", ".join(named[:_TOLD]) + (" and others" if len(named) > _TOLD else "")


def check_each(patterns: Iterable[str], names: Sequence[str], *, pointer: str) -> None:
    """Raise `NoLayerMatches` where one of the patterns, which stand at `pointer` in the params, means no name."""
    for pattern in patterns:
        matching(names, include=(pattern,), exclude=(), pointer=pointer)
