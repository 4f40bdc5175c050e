"""Forward hooks that keep what layers give out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressor.distillation.feature import Feature
from compressor.measure.counting import evaluating


class Taps:
    """What layers gave out the last time, by their names, in the order in which they did."""

    def __init__(self) -> None:
        self._seen: dict[str, Tensor] = {}

    def keep(self, name: str, output: object) -> None:
        """Keep a copy in float32, because what comes behind may compute in place."""
        found = _tensor(output)
        self._seen.pop(name, None)
        if found is not None:
            self._seen[name] = found.to(torch.float32, copy=True)

    def take(self) -> dict[str, Tensor]:
        """What was kept, which is forgotten."""
        seen, self._seen = self._seen, {}
        return seen


def _tensor(output: object) -> Tensor | None:
    """What a layer gives out first, where that is a tensor of numbers; attention answers with a tuple."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


@contextmanager
def tapped(module: nn.Module, names: Sequence[str]) -> Iterator[Taps]:
    """Within this block the layers of these names are listened to."""
    taps = Taps()

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        return module.get_submodule(name).register_forward_hook(lambda part, args, output: taps.keep(name, output))

    handles = [hook(name) for name in names]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def features_of(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Feature]:
    """What every layer gives out, in the order in which they answer to an image of (C, H, W), in eval mode.

    Layers that are never called, or give out something else than a vector, tokens or a map, are left out.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    names = [name for name, _ in module.named_modules() if name]
    with evaluating(module), tapped(module, names) as taps:
        module(torch.zeros(1, *input_shape, device=device))
    return {
        name: Feature(name, tuple(found.shape[1:]), input_shape[1:])
        for name, found in taps.take().items()
        if found.dim() in (2, 3, 4) and len(found) == 1
    }
