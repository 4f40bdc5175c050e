"""What is left of a network makes up for the channels that went: channel pruning's second half.

He et al. 2017 (arXiv:1707.06168), section 3.2: one after the other, in the order in which they run, the layers that
have lost inputs are fitted by least squares to what they gave in the network as it was, on the inputs that the narrower
one gives them. No label is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor, nn

from compressor.fitting import Fit, Reconstruction, can_be_fitted, fit
from compressor.inputs import Seeing, in_order_of_run
from compressor.outcomes import Aim, Batches
from compressor.pruning.channels import Narrowed
from compressor.pruning.heads import unfused_like


@dataclass(frozen=True)
class Goal:
    """The network as it was, and the numbers of those of its outputs that are left, layer by layer."""

    network: nn.Module
    #: All of a layer that is not named.
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def behind(self, narrowed: Narrowed) -> Self:
        """The same goal for what was narrowed once more."""
        left = {n: self.outputs[n][kept] if n in self.outputs else kept for n, kept in narrowed.outputs.items()}
        return replace(self, outputs=left)


def reconstruct(
    narrowed: Narrowed, goal: Goal, batches: Batches, *, input_shape: tuple[int, int, int], seed: int,
    tell: Callable[[float], None],
) -> Reconstruction:  # fmt: skip
    """Fit the layers of a narrowed network, in place, to those of its goal, which bear the same names."""
    original = unfused_like(goal.network, narrowed.module)
    before = _products(original)
    layers = _with_fewer_inputs(narrowed.module, before)
    order = in_order_of_run(narrowed.module, [name for name in layers if can_be_fitted(layers[name])], input_shape)
    found: dict[str, Fit] = {}
    for number, name in enumerate(order):
        tell(number / len(order))
        aim, mask = Aim(original, before[name], goal.outputs[name]), narrowed.masks.get(f"{name}.weight")
        made = fit(narrowed.module, layers[name], aim, batches(), seed=seed, kept=mask)
        if made is not None:
            found[name] = made
    return Reconstruction(found, tuple(name for name in layers if name not in found))


def _products(module: nn.Module) -> dict[str, Seeing]:
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}


def _with_fewer_inputs(module: nn.Module, before: Mapping[str, Seeing]) -> dict[str, Seeing]:
    """The layers of which each output is made of fewer numbers, which those of depthwise convolutions never are."""
    return {n: p for n, p in _products(module).items() if p.weight[0].shape != before[n].weight[0].shape}
