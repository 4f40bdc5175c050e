"""When masks grow, and what they have grown to at the end."""

from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from compressor.sparsity.schedules import ChooseNow, Growth, gradual, iterative
from compressor.training.state import Run


class Told:
    """Masks that nobody chooses: only how much of 0.9 is cut by now is kept, update by update."""

    def __init__(self) -> None:
        self.amounts: list[float] = []

    def choose(self, run: Run, now: Callable[[float], float]) -> Mapping[str, Tensor]:
        self.amounts.append(now(0.9))
        return {}


def run_through(growth: Growth, updates: int) -> None:
    module = nn.Linear(2, 2)
    run = Run(module=module, optimizer=torch.optim.SGD(module.parameters()))
    for number in range(updates):
        growth.after_update(run, number)


@pytest.mark.parametrize(
    ("updates", "rounds", "choices"), [(1, 3, 1), (2, 3, 2), (3, 3, 3), (4, 3, 3), (100, 3, 3), (1, 100, 1)]
)
def test_rounds_end_at_the_amount_however_short_the_training(updates: int, rounds: int, choices: int) -> None:
    # Given so many updates, which may be fewer than the rounds / When all are done
    told = Told()
    run_through(iterative(told.choose, updates=updates, rounds=rounds, original=None), updates)
    # Then the amount is reached, in as many rounds as there is room for
    assert told.amounts[-1] == pytest.approx(0.9)
    assert len(told.amounts) == choices


by_a_third, by_the_end = partial(gradual, pruned_by=1 / 3), partial(gradual, pruned_by=1)


@pytest.mark.parametrize(("schedule", "settled"), [(by_a_third, 299), (by_the_end, 899)])
def test_the_amount_is_reached_behind_the_part_that_is_asked_for(schedule: Callable[..., Growth], settled: int) -> None:
    # Given a training of 900 updates / When masks grow during a part of it
    told = Told()
    growth = schedule(told.choose, updates=900)
    run_through(growth, 900)
    # Then the last of some dozens of choices is behind that part
    assert growth.settled == settled
    assert len(told.amounts) == 60


@pytest.mark.parametrize("updates", [5, 6, 47, 60, 235])
def test_choices_stand_evenly(updates: int) -> None:
    # Given updates that six choices do not always divide / When masks grow over all of them
    told = Told()
    module = nn.Linear(2, 2)
    run = Run(module=module, optimizer=torch.optim.SGD(module.parameters()))
    growth, at = gradual(told.choose, updates=updates, pruned_by=1, choices=6), []
    for number in range(updates):
        before = len(told.amounts)
        growth.after_update(run, number)
        at += [number + 1] * (len(told.amounts) - before)
    # Then each is as far from the one before as the last is, but for one update
    steps = [after - before for before, after in zip([0, *at], at, strict=False)]
    assert len(at) == min(6, updates)
    assert at[-1] == updates
    assert max(steps) - min(steps) <= 1


def in_four_rounds(choose: ChooseNow, *, updates: int) -> Growth:
    return iterative(choose, updates=updates, rounds=4, original=None)


@pytest.mark.parametrize("updates", [1, 2, 50, 1000])
@pytest.mark.parametrize("schedule", [by_a_third, by_the_end, in_four_rounds])
def test_masks_grow_until_the_update_that_is_told(schedule: Callable[..., Growth], updates: int) -> None:
    # Given a schedule / When it is gone through to the update that is told, and to the end
    told, whole = Told(), Told()
    growth = schedule(told.choose, updates=updates)
    run_through(growth, growth.settled + 1)
    run_through(schedule(whole.choose, updates=updates), updates)
    # Then all that is cut is cut by then
    assert told.amounts == whole.amounts
    assert told.amounts[-1] == pytest.approx(0.9)
