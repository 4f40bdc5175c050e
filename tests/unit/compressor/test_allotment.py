"""A budget goes where it saves most."""

import itertools

import pytest
import torch

from compressor.allotment import Option, allotted


def options(seed: int) -> dict[str, tuple[Option[int], ...]]:
    """Layers of different sizes, whose losses fall by about four with each bit, but not evenly."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(10, 1000, (6,), generator=random).tolist()
    losses = torch.rand(6, generator=random).tolist()
    wobble = torch.rand(6, 4, generator=random).add(0.5).tolist()
    return {
        f"layer{i}": tuple(Option(b, b * size, loss * 4.0**-b * wobble[i][n]) for n, b in enumerate((1, 2, 4, 8)))
        for i, (size, loss) in enumerate(zip(sizes, losses, strict=True))
    }


def best(layers: dict[str, tuple[Option[int], ...]], budget: float) -> float:
    """The least loss of all that fits, by trying everything."""
    tried = itertools.product(*layers.values())
    return min(sum(o.loss for o in one) for one in tried if sum(o.size for o in one) <= budget)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("bits", [1.5, 3.0, 5.0])
def test_what_is_chosen_fits_and_is_nearly_the_best(seed: int, bits: float) -> None:
    # Given layers and a budget
    layers = options(seed)
    budget = bits * sum(each[0].size for each in layers.values())
    # When bits are allotted
    chosen = allotted(layers, budget)
    # Then they fit, and lose at most half as much again as the best of all combinations
    assert chosen is not None
    assert sum(option.size for option in chosen.values()) <= budget
    assert sum(option.loss for option in chosen.values()) <= 1.5 * best(layers, budget)


def test_a_budget_below_the_least_is_refused() -> None:
    # Given a budget of half a bit / When bits are allotted / Then there is nothing
    layers = options(0)
    assert allotted(layers, 0.5 * sum(each[0].size for each in layers.values())) is None


def test_an_option_that_saves_nothing_is_not_taken() -> None:
    # Given a layer that loses more with more bits / When there is room for all / Then it has the fewest
    chosen = allotted({"a": (Option(1, 1.0, 0.1), Option(8, 8.0, 0.2))}, 100.0)
    assert chosen is not None
    assert chosen["a"].form == 1


def test_room_that_is_left_goes_to_options_beside_the_hull() -> None:
    # Given an option that saves less for its size than the next one, which is too large
    options = {"a": (Option("small", 1.0, 1.0), Option("middle", 5.0, 0.9), Option("large", 9.0, 0.0))}
    # When there is room for it / Then it is taken
    chosen = allotted(options, 8.0)
    assert chosen is not None
    assert chosen["a"].form == "middle"
