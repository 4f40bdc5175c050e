"""Pruning while the network is trained: masks that grow from update to update, or from round to round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from compressor.sparsity.amounts import cubic, geometric
from compressor.training.state import AfterUpdate, Run

#: Masks of a gradual pruning are chosen anew about so often, or so often where that is an operation on all layers.
CHOICES, OPERATIONS = 60, 6

#: From the part of an amount that is cut by now to the masks of the run's weights as they are.
ChooseNow = Callable[[Run, Callable[[float], float]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Growth:
    """Masks that grow during a training."""

    after_update: AfterUpdate
    #: The number of the update behind which they have grown.
    settled: int


def gradual(choose: ChooseNow, *, updates: int, pruned_by: float, choices: int = CHOICES) -> Growth:
    """Masks along the cubic curve (Zhu and Gupta 2017, arXiv:1710.01878), over a training of so many updates.

    They have grown behind the part `pruned_by` of it, so that the rest can make up for what is gone.
    """
    end = max(1, round(pruned_by * updates))

    def after(run: Run, update: int) -> None:
        by_now = update + 1
        if by_now <= end and by_now * choices // end > update * choices // end:
            _mask(run, choose(run, partial(cubic, done=by_now / end)))

    return Growth(after, end - 1)


def iterative(choose: ChooseNow, *, updates: int, rounds: int, original: Mapping[str, Tensor] | None) -> Growth:
    """Masks that grow at the start of every round, by the same part of what is left.

    There are no more rounds than updates. Where the `original` state is given, what is left goes back to it, and its
    momenta are forgotten.
    """
    rounds = min(rounds, updates)
    length = updates // rounds

    def after(run: Run, update: int) -> None:
        number, behind = divmod(update, length)
        if behind or number >= rounds:
            return
        _mask(run, choose(run, partial(geometric, round_=number + 1, rounds=rounds)))
        if original is not None and number:
            run.module.load_state_dict(dict(original))
            run.optimizer.state.clear()
            if run.average is not None:
                run.average.restart()

    return Growth(after, (rounds - 1) * length)


@torch.no_grad()
def _mask(run: Run, masks: Mapping[str, Tensor]) -> None:
    for name, kept in masks.items():
        run.mask(name, kept)
    run.apply_masks()
