"""A distribution in five numbers."""

from torch import Tensor

#: More numbers than this are told by an even sample of them.
_MOST = 1_000_000
_DIGITS = 4


def quartiles(values: Tensor) -> list[float]:
    """The least, the quartiles between neighbours, and the most of some numbers, to four digits."""
    flat = values.detach().flatten()
    # The sample has both ends, wherever they lie.
    sample = flat[:: -(-len(flat) // _MOST)].double()
    found = sample.quantile(sample.new_tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    found[0], found[-1] = flat.min(), flat.max()
    return [float(f"{value:.{_DIGITS}g}") for value in found.tolist()]
