"""The layers at which a network's features are usually compared: the ends of its stages.

The trunk is what the network calls one behind the other: its direct parts, sequences taken apart. Where that gives
fewer than three features (a transformer's encoder is one part), the part with the most weights is taken apart too.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from torch import nn

from compressor.distillation.feature import Feature, Kind

#: Features that a trunk has at least, unless it cannot be taken further apart.
_FEW = 3
#: Into how many parts of the same length a trunk is cut whose features all have the same height and width.
_QUARTERS = 4


def stage_ends(module: nn.Module, features: Mapping[str, Feature]) -> list[Feature]:
    """The last feature of the trunk at each height and width of its maps, first to last.

    Pooling is no end, and global pooling is behind the last. A trunk of one size, as that of transformers, is cut into
    quarters of its blocks.
    """
    trunk = _before_global_pooling(module, _trunk(module, features))
    stages = [list(run) for _, run in groupby(trunk, key=lambda feature: feature.octave)]
    if len(stages) > 1:
        return [run[-1] for run in stages]
    return _quarters([f for f in trunk if _has_matrix(module.get_submodule(f.name))] or trunk)


def _quarters(blocks: Sequence[Feature]) -> list[Feature]:
    ends = {round(len(blocks) * part / _QUARTERS) for part in range(1, _QUARTERS + 1)}
    return [blocks[end - 1] for end in sorted(ends) if end]


def _has_matrix(part: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in part.parameters())


def _before_global_pooling(module: nn.Module, trunk: Sequence[Feature]) -> list[Feature]:
    found = []
    for feature in trunk:
        pooling = "Pool" in type(module.get_submodule(feature.name)).__name__
        if pooling and (feature.kind is Kind.VECTOR or feature.places == (1, 1)):
            break
        if not pooling and feature.kind is not Kind.VECTOR:
            found.append(feature)
    return found


def _trunk(module: nn.Module, features: Mapping[str, Feature]) -> list[Feature]:
    """In the order in which they answer; vectors among them."""
    names = list(_parts(module, "", features))
    while sum(features[name].kind is not Kind.VECTOR for name in names) < _FEW:
        closed = [name for name in names if any(_parts(module.get_submodule(name), name, features))]
        if not closed:
            break
        heaviest = max(closed, key=lambda name: _weights(module.get_submodule(name)))
        names.remove(heaviest)
        names += _parts(module.get_submodule(heaviest), heaviest, features)
    chosen = set(names)
    return [feature for name, feature in features.items() if name in chosen]


def _parts(module: nn.Module, prefix: str, features: Mapping[str, Feature]) -> Iterator[str]:
    """The names of a module's parts with features, sequences and lists taken apart."""
    for child, part in module.named_children():
        name = f"{prefix}.{child}".removeprefix(".")
        if isinstance(part, nn.Sequential) or (name not in features and isinstance(part, nn.ModuleList)):
            yield from _parts(part, name, features)
        elif name in features:
            yield name


def _weights(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
