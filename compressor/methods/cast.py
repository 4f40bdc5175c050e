"""Parameters in 16 bits: a file of half the size, not a faster network.

All parameters of a layer are cast, its bias among them. Running statistics stay float32: there are few of them, and a
variance may be smaller than any float16.
"""

from collections.abc import Mapping
from dataclasses import replace

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.layers import matching
from compressor.quantization.halves import Halves, halves_of, largest
from compressor.quantization.selection import replace_weights
from contract.failures import AlreadyQuantized, NothingToQuantize, UnfitModel
from contract.methods.cast import Cast

#: Part of a parameter's values that may become zero without a word.
_FEW = 0.01


def preflight(candidate: Candidate, params: Cast) -> None:
    """Raise where no layer can be meant, or where a pattern names one that has its codes from an earlier step."""
    _chosen(candidate, params)


def _chosen(candidate: Candidate, params: Cast) -> dict[str, str]:
    """The layers that the params mean, by the names of their parameters; those that earlier steps have taken not."""
    owners = {n: n.rpartition(".")[0] for n, p in candidate.module.named_parameters() if p.is_floating_point()}
    if not owners:
        raise NothingToQuantize("cast finds no layer with parameters.")
    # The network's own parameters, such as a class token, belong to a module without a name, which is no hint.
    layers = sorted(dict.fromkeys(owners.values()), key=bool, reverse=True)
    meant = set(matching(layers, include=params.include, exclude=params.exclude))
    wanted = {name: layer for name, layer in owners.items() if layer in meant}
    left = {name: layer for name, layer in wanted.items() if name not in candidate.plan.weights}
    if params.include != ("*",):
        _refuse_taken(wanted, left)
    if not left:
        raise NothingToQuantize("cast finds no parameter that earlier steps have left.")
    return left


def _refuse_taken(wanted: Mapping[str, str], left: Mapping[str, str]) -> None:
    taken = next((layer for name, layer in wanted.items() if name not in left), None)
    if taken is not None:
        raise AlreadyQuantized(f"{taken} has its codes from an earlier step.", layer=taken)


def apply(candidate: Candidate, params: Cast, context: Context) -> Candidate:
    """Give the parameters of the matching layers 16 bits, and let them be what these mean."""
    candidate.module.to(context.device)
    layers = _chosen(candidate, params)
    halves = {name: halves_of(candidate.module.get_parameter(name), params.to) for name in layers}
    for name, layer in layers.items():
        _check_range(candidate, name, layer, halves[name])
    _tell(candidate, layers, halves, context)
    replace_weights(candidate.module, halves)
    return replace(candidate, plan=candidate.plan.with_weights(halves))


def _check_range(candidate: Candidate, name: str, layer: str, halves: Halves) -> None:
    if not halves.finite:
        most = float(candidate.module.get_parameter(name).detach().abs().max())
        raise UnfitModel(
            f"{name} has values up to {most:.5g}, and {halves.kind} ends at {largest(halves.kind):.5g}.", layer=layer
        )


def _tell(candidate: Candidate, layers: Mapping[str, str], halves: Mapping[str, Halves], context: Context) -> None:
    """Which layers were cast, and what is zero by it."""
    vanished = {name: lost for name in halves if (lost := _vanished(candidate, name, halves[name]))}
    count = sum(parameter.numel() for parameter in candidate.module.parameters())
    context.record("layers", list(dict.fromkeys(layers.values())))
    context.record("share_of_parameters", round(sum(part.values.numel() for part in halves.values()) / count, 6))
    context.record("became_zero", {name: lost for name, (lost, _) in vanished.items()})
    many = [name for name, (lost, of) in vanished.items() if lost > _FEW * of]
    if many:
        kind = halves[many[0]].kind
        context.notice(
            "values_became_zero", f"{kind} has no numbers as small as many of {', '.join(many[:4])}: they are zero now."
        )


def _vanished(candidate: Candidate, name: str, halves: Halves) -> tuple[int, int] | None:
    """How many values are zero that were not, and of how many; null where there are none."""
    before, after = int(candidate.module.get_parameter(name).count_nonzero()), int(halves.values.count_nonzero())
    return (before - after, before) if after < before else None
