"""What the loss makes of an error in what a layer gives out.

To second order the loss rises by half the mean square of the derivative of the log-likelihood along the error. Where
errors are taken for independent of derivatives, and places for independent of each other, a change D of a layer's
weight costs half of tr(G D C D^T): C are the second moments of what the layer sees, and G those of the derivatives by
what it gives out, summed over places. These are the two factors of Martens and Grosse 2015 (arXiv:1503.05671), for
convolutions of Grosse and Martens 2016 (arXiv:1602.01407).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressor.curvature.likelihood import differentiated
from compressor.curvature.moments import shrunk
from compressor.inputs import Seeing


class _Watch:
    """Hears the derivatives by what layers give out while batches of images pass."""

    def __init__(self, layers: Mapping[str, Seeing]) -> None:
        self._layers = layers
        self.sums: dict[str, Tensor] = {}
        #: How many derivatives went into each sum.
        self.counts: dict[str, int] = {}

    @contextmanager
    def batch(self, _: int) -> Iterator[None]:
        """See a batch forward and backward; a layer may run several times."""
        handles = [layer.register_forward_hook(self._listen(name)) for name, layer in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _listen(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], y: Tensor) -> None:
            if y.requires_grad:
                y.register_hook(lambda derivatives: self._hear(name, derivatives))  # type: ignore[no-untyped-call]

        return hook

    def _hear(self, name: str, derivatives: Tensor) -> None:
        channels = 1 if isinstance(self._layers[name], nn.Conv2d) else -1
        rows = derivatives.movedim(channels, -1).flatten(0, -2)
        self.sums[name] = rows.T @ rows + self.sums.get(name, 0)
        self.counts[name] = self.counts.get(name, 0) + len(rows)


def root(at_stake: Tensor) -> Tensor:
    """R with R^T R = G, upper triangular, float64: it leads into coordinates in which all errors cost alike."""
    lower: Tensor = torch.linalg.cholesky(at_stake.double())
    return lower.T


def stakes(
    network: nn.Module, layers: Mapping[str, Seeing], batches: Iterable[Tensor], *, seed: int
) -> dict[str, Tensor]:
    """G of each layer, (outputs, outputs), regular, on the CPU; nothing at all where any layer has none that is finite.

    What costs of layers are compared by must be known of all of them.
    """
    watch = _Watch(layers)
    images = differentiated(network, batches, watch.batch, seed=seed)
    found = {name: shrunk(total.cpu() / images, watch.counts[name]) for name, total in watch.sums.items()}
    known = found.keys() == layers.keys() and all(each.isfinite().all() for each in found.values())
    return found if known else {}
