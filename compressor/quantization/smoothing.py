"""SmoothQuant: outliers of activations become weights (Xiao et al. 2023, arXiv:2211.10438).

Channels of a layer normalization that are far larger than the others leave these with few codes. Each is divided by
s_j = max|X_j|**alpha / max|W_j|**(1 - alpha) (eq. 4) in the normalization's scale and shift, and the columns of all
linear layers that read it are multiplied by s_j, which changes no answer.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compressor.quantization.graph import aten
from compressor.quantization.observing import observe
from compressor.quantization.products import products
from compressor.quantization.solitary import solitary

#: Operators that may lie between: they move values about, and leave the channels last and in their order.
_MOVES = {
    aten.transpose.int, aten.permute.default, aten.view.default, aten.reshape.default, aten.contiguous.default,
    aten.slice.Tensor, aten.select.int, aten.squeeze.dim, aten.flatten.using_ints, aten.roll.default,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Group:
    """A layer normalization and the linear layers that alone read it."""

    node: Node
    #: Scale and shift, or the scale alone.
    affine: tuple[nn.Parameter, ...]
    #: (out, in) each.
    weights: tuple[nn.Parameter, ...]
    parameters: tuple[str, ...]

    def smooth(self, largest: Tensor, strength: float) -> None:
        """Move `strength` of the spread of channels, whose largest magnitudes are `largest`, into the weights."""
        columns = torch.stack([weight.detach().abs().amax(0) for weight in self.weights]).amax(0)
        s = largest.pow(strength) / columns.pow(1 - strength)
        s = torch.where((largest > 0) & (columns > 0), s, torch.ones_like(s))
        for part in self.affine:
            part.data.div_(s)
        for weight in self.weights:
            weight.data.mul_(s)


@dataclass
class _Largest:
    """The largest magnitude of each channel, which is the last dimension."""

    found: Tensor = field(default_factory=lambda: torch.zeros(1))

    def see(self, x: Tensor) -> None:
        self.found = torch.maximum(self.found.to(x.device), x.abs().flatten(0, -2).amax(0))


def smooth(
    module: GraphModule, batches: Iterable[Tensor], *, strength: float, chosen: Collection[str], keep: Collection[str]
) -> list[str]:
    """Smooth the inputs of the `chosen` weights in place; groups with a weight named in `keep` stay as they are.

    Returns the names of the normalizations, or nothing, without a look at the batches, where there are none.
    """
    found = [g for g in groups(module) if set(g.parameters) & set(chosen) and not set(g.parameters) & set(keep)]
    seen = {group.node: _Largest() for group in found}
    if found:
        observe(module, {node: largest.see for node, largest in seen.items()}, batches)
    for group in found:
        group.smooth(seen[group.node].found, strength)
    return [str(group.node.args[2].target).rpartition(".")[0] for group in found]  # type: ignore[union-attr]


def groups(module: GraphModule) -> Iterator[Group]:
    """The normalizations that nothing but linear layers reads, in the order in which they run."""
    linear = {product.node: product.parameter for product in products(module) if product.kind == "linear"}
    for node in module.graph.nodes:
        if node.target is not aten.layer_norm.default or len(node.args) < 4 or len(node.args[1]) != 1:
            continue
        readers = list(_readers(node))
        affine = [solitary(module, part) for part in node.args[2:4] if part is not None]
        weights = [solitary(module, reader.args[1]) for reader in readers]
        whole = affine and readers and all(reader in linear for reader in readers)
        if whole and node.args[2] is not None and not any(part is None for part in (*affine, *weights)):
            yield Group(
                node,
                tuple(part for part in affine if part is not None),
                tuple(weight for weight in weights if weight is not None),
                tuple(linear[reader] for reader in readers),
            )


def _readers(node: Node) -> Iterator[Node]:
    """Operators that read an activation, directly or moved about with its channels last."""
    for user in node.users:
        if user.target in _MOVES and _keeps_channels(user):
            yield from _readers(user)
        else:
            yield user


def _keeps_channels(node: Node) -> bool:
    before, after = (moved.meta["val"].shape for moved in (node.all_input_nodes[0], node))
    last = len(before) - 1
    match node.target:
        case aten.transpose.int | aten.select.int | aten.slice.Tensor | aten.squeeze.dim | aten.roll.default:
            return last not in {dim % len(before) for dim in _dims(node)}
        case aten.permute.default:
            return _dims(node)[-1] % len(before) == last
        case _:
            # What reshapes leaves the last dimension as it is where its size is the same.
            return bool(before[-1] == after[-1])


def _dims(node: Node) -> list[int]:
    """The dimensions that a move names."""
    match node.target:
        case aten.transpose.int:
            return list(node.args[1:3])  # type: ignore[arg-type]
        case aten.roll.default:
            return list(node.args[2]) if len(node.args) > 2 else [-1]  # type: ignore[arg-type]
        case aten.permute.default:
            return list(node.args[1])  # type: ignore[arg-type]
        case _:
            return [int(node.args[1]) if len(node.args) > 1 else 0]  # type: ignore[arg-type]
