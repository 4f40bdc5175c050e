"""A training underway, and how it becomes what a checkpoint keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from compressor.candidate import Candidate
from compressor.context import TrainingState
from compressor.training.average import Average
from compressor.training.optimizers import optimizer_tensors, restore_optimizer
from compressor.training.straight import Straight
from compressor.training.weighted import Weighted
from contract.value import Json

_MODULE, _OPTIMIZER, _AVERAGE, _BEST, _MASK = "module.", "optimizer.", "average.", "best.", "mask."
_STRAIGHT, _OBJECTIVE = "straight.", "objective."
_CURVE, _JUDGED, _UPDATES, _TERMS = "train_loss", "held_out_loss", "average_updates", "terms"


@dataclass(kw_only=True)
class Run:
    """One training underway."""

    module: nn.Module
    optimizer: Optimizer
    #: For a pruned parameter's name, true where a weight is kept; of the parameter's device and layout.
    masks: dict[str, Tensor] = field(default_factory=dict)
    average: Average | None = None
    #: The weights that have codes, where there are any.
    straight: Straight | None = None
    #: Where the objective has terms, and what they learn.
    objective: Weighted | None = None
    #: The mean of each of its terms in each epoch that is done.
    terms: dict[str, list[float]] = field(default_factory=dict)
    #: Mean loss of each epoch that is done.
    curve: list[float] = field(default_factory=list)
    #: Loss on the held-out images after each epoch, where there are any.
    judged: list[float] = field(default_factory=list)
    #: The first epoch, counted from 0, that can be the best: at the end of those before it masks still grow.
    settled: int = 0
    #: The module's state after the epoch with the least loss on the held-out images.
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs_done(self) -> int:
        """How often all images have been seen."""
        return len(self.curve)

    @property
    def epochs_since_best(self) -> int:
        """How long the loss on the held-out images has not fallen; 0 until masks have grown."""
        losses = self.judged[self.settled :]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    def mask(self, name: str, kept: Tensor) -> None:
        """Keep a parameter's weights at zero from now on where `kept` is false."""
        self.masks[name] = torch.empty_like(self.module.get_parameter(name), dtype=torch.bool).copy_(kept)

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set pruned weights to zero again: momentum moves them where no gradient does, and averages remember them."""
        for name, mask in self.masks.items():
            self.module.get_parameter(name).mul_(mask)
            if self.average is not None:
                self.average.tensors[name].mul_(mask)

    def coded(self, candidate: Candidate) -> Candidate:
        """The candidate with the codes that its weights have now."""
        if self.straight is None:
            return candidate
        return replace(candidate, plan=candidate.plan.with_weights(self.straight.codes))

    def state(self) -> TrainingState:
        """What a checkpoint keeps of it; the tensors are those that training goes on with."""
        parts: Mapping[str, Mapping[str, Tensor]] = {
            _MODULE: self.module.state_dict(),
            _OPTIMIZER: optimizer_tensors(self.optimizer),
            _AVERAGE: self.average.tensors if self.average else {},
            _BEST: self.best,
            _MASK: self.masks,
            _STRAIGHT: self.straight.state() if self.straight else {},
            _OBJECTIVE: self.objective.state_dict() if self.objective else {},
        }
        tensors = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
        values: dict[str, Json] = {
            _CURVE: list(self.curve),
            _JUDGED: list(self.judged),
            _UPDATES: self.average.updates if self.average else 0,
            _TERMS: {name: list(curve) for name, curve in self.terms.items()},
        }
        return TrainingState(self.epochs_done, tensors, values)

    def restore(self, state: TrainingState) -> None:
        """Go on from where `state` was taken."""
        self.module.load_state_dict(_under(_MODULE, state))
        restore_optimizer(self.optimizer, _under(_OPTIMIZER, state))
        if self.average is not None:
            self.average.restore(_under(_AVERAGE, state), int(_numbers(state.values[_UPDATES])[0]))
        if self.straight is not None:
            self.straight.restore(_under(_STRAIGHT, state))
        if self.objective is not None:
            self.objective.load_state_dict(_under(_OBJECTIVE, state))
        for name, kept in _under(_MASK, state).items():
            self.mask(name, kept)
        self.best = dict(_under(_BEST, state))
        self.curve[:], self.judged[:] = _numbers(state.values[_CURVE]), _numbers(state.values[_JUDGED])
        terms = state.values[_TERMS]
        assert isinstance(terms, dict)
        self.terms = {name: _numbers(curve) for name, curve in terms.items()}


#: Told of a run and the number of an update behind it; may change weights and masks.
AfterUpdate = Callable[[Run, int], None]


def module_of(state: TrainingState) -> dict[str, Tensor]:
    """The weights and statistics that the network had."""
    return dict(_under(_MODULE, state))


def masks_of(state: TrainingState) -> dict[str, Tensor]:
    """The masks that a training had, by parameter name."""
    return dict(_under(_MASK, state))


def _under(prefix: str, state: TrainingState) -> Mapping[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.tensors.items() if name.startswith(prefix)}


def _numbers(found: Json) -> list[float]:
    return [float(n) for n in (found if isinstance(found, list) else [found]) if isinstance(n, int | float)]
