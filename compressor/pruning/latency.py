"""Channels are removed until the network is as fast as it shall be; how fast it is, is measured."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.failures import UnfitModel

#: The ratios of channels that are tried. Kernels are not faster for every channel less, and times are noisy.
GRID = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True)
class Reached:
    """The ratio of the channels that has gone, and the part of the time that is left with it; of those at first."""

    ratio: float = 0.0
    left: float = 1.0

    def then(self, later: "Reached") -> "Reached":
        """Both together, where the later's time is a part of what the earlier has left."""
        return Reached(max(self.ratio, later.ratio), self.left * later.left)


def least_ratio(left: Callable[[float], float], target: float, *, now: float = 1.0) -> Reached:
    """The least ratio of channels whose removal leaves no more than `target` of the time, by bisection over the grid.

    `left` measures what a ratio leaves of a network that takes the part `now` of the time already. Raises `UnfitModel`
    where the largest leaves too much.
    """
    low, high = 0, len(GRID) - 1
    best = Reached(GRID[high], left(GRID[high]))
    if now * best.left > target:
        raise UnfitModel(
            f"A latency_ratio of {target:g} cannot be met: with {best.ratio:.0%} of the channels removed, "
            f"{now * best.left:.3f} of the time is left."
        )
    while low < high:
        middle = (low + high) // 2
        found = Reached(GRID[middle], left(GRID[middle]))
        if now * found.left <= target:
            best, high = found, middle
        else:
            low = middle + 1
    return best
