"""How much of each layer goes, and when."""

import itertools

import pytest
import torch

from compressor.sparsity.amounts import cubic, erk, geometric, own_amounts

WEIGHTS = {"conv1": torch.empty(16, 3, 3, 3), "conv2": torch.empty(64, 64, 3, 3), "fc": torch.empty(10, 64)}


@pytest.mark.parametrize("amount", [0.5, 0.8, 0.95])
def test_erk_zeroes_the_amount_of_all_and_spares_small_layers(amount: float) -> None:
    # Given layers of unlike sizes / When an amount is spread
    amounts = erk(WEIGHTS, amount)
    # Then all of them together lose it, within [0, 1] each
    zeros = sum(amounts[name] * weight.numel() for name, weight in WEIGHTS.items())
    assert zeros / sum(weight.numel() for weight in WEIGHTS.values()) == pytest.approx(amount)
    assert all(0 <= one <= 1 for one in amounts.values())
    # And those that are not full have densities in proportion to the sum of their dimensions over their product
    raw = {name: sum(weight.shape) / weight.numel() for name, weight in WEIGHTS.items()}
    ratios = [(1 - amounts[name]) / raw[name] for name in WEIGHTS if amounts[name] > 0]
    assert ratios == [pytest.approx(ratios[0])] * len(ratios)
    assert amounts["conv2"] == max(amounts.values())


def test_a_glob_gives_its_layers_an_amount_of_their_own() -> None:
    # Given globs of which two match / When amounts are looked up
    modules = {"conv1.weight": "conv1", "layer1.0.conv1.weight": "layer1.0.conv1", "fc.weight": "fc"}
    found = own_amounts(modules, {"conv1": 0.1, "*conv1": 0.2}, dict.fromkeys(modules, 0.5))
    # Then the first that matches counts, and the rest keeps its default
    assert found == {"conv1.weight": 0.1, "layer1.0.conv1.weight": 0.2, "fc.weight": 0.5}


def test_a_gradual_pruning_is_quick_at_first_and_slow_at_the_end() -> None:
    # Given the cubic curve / Then it goes from nothing to the amount, by ever smaller steps, and stays there
    curve = [cubic(0.9, step / 10) for step in range(13)]
    assert curve[0] == 0
    assert curve[5] == pytest.approx(0.9 * (1 - 0.5**3))
    assert curve[10:] == [pytest.approx(0.9)] * 3
    steps = [after - before for before, after in itertools.pairwise(curve)]
    assert steps == sorted(steps, reverse=True)


def test_every_round_takes_the_same_part_of_what_is_left() -> None:
    # Given three rounds to 87.5 % / Then half of what is left goes in each
    assert [geometric(0.875, number, 3) for number in (1, 2, 3)] == [pytest.approx(x) for x in (0.5, 0.75, 0.875)]
    assert geometric(1.0, 3, 3) == 1.0
