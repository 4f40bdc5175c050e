"""Factors make up for what those before them have lost: the asymmetric reconstruction of Zhang et al. 2015.

(arXiv:1505.06798, section 3.3.) One after the other, in the order in which they run, the last factor of each layer is
fitted by least squares to what the layer gave in the network as it was, on what the factors before it let through now.
"""

from collections.abc import Callable, Collection, Sequence

from torch import nn

from compressor.fitting import Fit, Reconstruction, can_be_fitted, fit
from compressor.inputs import in_order_of_run
from compressor.outcomes import Aim, Batches


def reconstruct(
    network: nn.Module, original: nn.Module, names: Sequence[str], batches: Batches, *,
    several: Collection[str], input_shape: tuple[int, int, int], seed: int, tell: Callable[[float], None],
) -> Reconstruction:  # fmt: skip
    """Fit the last factors of the layers of these names, in place.

    Those that run `several` times for an image are left: each time they see something else.
    """
    order = in_order_of_run(original, [name for name in names if name not in several], input_shape)
    found: dict[str, Fit] = {}
    for number, name in enumerate(order):
        tell(number / len(order))
        factors, layer = network.get_submodule(name), original.get_submodule(name)
        assert isinstance(factors, nn.Sequential)
        last = factors[-1]
        assert isinstance(last, nn.Linear | nn.Conv2d)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        if not can_be_fitted(last):
            continue
        made = fit(network, last, Aim(original, layer), batches(), seed=seed)
        if made is not None:
            found[name] = made
    return Reconstruction(found, tuple(name for name in names if name not in found))
