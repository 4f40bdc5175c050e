"""Step sizes, what is decayed, and what an optimizer remembers over an interruption."""

from typing import Literal

import pytest
import torch
from torch import nn

from compressor.training.layout import channels_last
from compressor.training.optimizers import (
    optimizer_for,
    optimizer_tensors,
    rate_at,
    restore_optimizer,
    set_rate,
)
from contract.failures import UnfitModel
from contract.methods.train import FineTune

Kind = Literal["adam", "adamw", "sgd"]
every_optimizer = pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    layers(torch.zeros(2, 3, 6, 6))
    return channels_last(layers)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    module(x).square().sum().backward()
    optimizer.step()


def test_a_cosine_falls_from_the_learning_rate_to_nothing() -> None:
    # Given ten iterations / When the schedule is a cosine
    params = FineTune(learning_rate=0.2)
    rates = [rate_at(iteration, params, iterations=10) for iteration in range(11)]
    # Then it begins at the top, is half way down in the middle, and ends at 0
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[5], rates[10]) == (pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.0))


def test_a_constant_rate_stays() -> None:
    params = FineTune(learning_rate=0.2, schedule="constant")
    assert {rate_at(iteration, params, iterations=10) for iteration in range(10)} == {0.2}


def rates(**recipe: object) -> list[float]:
    params = FineTune.model_validate({"learning_rate": 1.0, **recipe})
    return [rate_at(iteration, params, iterations=100) for iteration in range(100)]


def test_one_cycle_rises_and_falls() -> None:
    # Given a hundred iterations / Then the step size begins at a 25th, is largest behind 30, and ends at nearly 0
    found = rates(schedule="one_cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert found.index(max(found)) == 30
    assert max(found) == pytest.approx(1.0)
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)
    assert found[-1] < 0.01


def test_steps_fall_to_a_tenth_twice() -> None:
    assert rates(schedule="step") == [1.0] * 50 + [0.1] * 25 + [0.01] * 25


def test_a_warm_up_rises_linearly_and_the_schedule_fills_the_rest() -> None:
    # Given a warm-up of half an epoch out of five
    found = rates(epochs=5, warmup_epochs=0.5)
    # Then the first tenth rises in equal steps to the learning rate, and the cosine falls from there
    assert found[:10] == [pytest.approx((number + 1) / 10) for number in range(10)]
    assert found[10] == pytest.approx(1.0)
    assert found[55] == pytest.approx(0.5)


@every_optimizer
def test_the_rate_that_is_set_is_the_one_that_is_used(kind: Kind) -> None:
    # Given an optimizer whose rate was set to nothing / When it steps
    module = network()
    optimizer = optimizer_for(module, FineTune(optimizer=kind, weight_decay=0.1))
    before = [parameter.clone() for parameter in module.parameters()]
    set_rate(optimizer, 0.0)
    step(module, optimizer, 0)
    # Then nothing moves
    assert all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


@every_optimizer
def test_only_matrices_and_kernels_are_decayed(kind: Kind) -> None:
    # Given a loss without a gradient / When weights decay
    module = network()
    optimizer = optimizer_for(module, FineTune(optimizer=kind, learning_rate=0.01, weight_decay=0.5))
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # Then those with more than one dimension shrink, and biases and normalizations stay
    moved = {name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"0.weight", "4.weight"}


@every_optimizer
def test_an_optimizer_that_was_put_away_goes_on_as_if_it_had_not_been(kind: Kind) -> None:
    # Given a training of six steps
    params = FineTune(optimizer=kind, weight_decay=0.01)
    whole, halves = network(), network()
    optimizer = optimizer_for(whole, params)
    for seed in range(6):
        step(whole, optimizer, seed)
    # When another is interrupted after three, and only weights and tensors are kept, in the order of a file
    first = optimizer_for(halves, params)
    for seed in range(3):
        step(halves, first, seed)
    kept = {name: tensor.clone().contiguous() for name, tensor in optimizer_tensors(first).items()}
    second = optimizer_for(halves, params)
    restore_optimizer(second, kept)
    for seed in range(3, 6):
        step(halves, second, seed)
    # Then both end with the same weights, to the last bit
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halves.parameters(), strict=True))


def test_a_model_without_trainable_weights_is_refused_by_name() -> None:
    with pytest.raises(UnfitModel, match="no weights that could be trained"):
        optimizer_for(nn.ReLU(), FineTune())
