"""A training underway, and how it becomes what a checkpoint keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from compressor.candidate import Candidate
from compressor.context import TrainingState
from compressor.training.optimizers import optimizer_tensors, restore_optimizer

_MODULE, _OPTIMIZER, _CURVE = "module.", "optimizer.", "train_loss"


@dataclass(frozen=True)
class Run:
    """One training underway."""

    module: nn.Module
    optimizer: Optimizer
    #: Pruned parameters, and which of their entries are kept.
    masked: tuple[tuple[Tensor, Tensor], ...]
    #: Mean loss of each epoch that is done.
    curve: list[float] = field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """How often all images have been seen."""
        return len(self.curve)

    def apply_masks(self) -> None:
        """Set pruned weights to zero again: momentum moves them where no gradient does."""
        for weight, mask in self.masked:
            weight.mul_(mask)

    def state(self) -> TrainingState:
        """What a checkpoint keeps of it; the tensors are those that training goes on with."""
        module = {_MODULE + name: tensor for name, tensor in self.module.state_dict().items()}
        optimizer = {_OPTIMIZER + name: tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        return TrainingState(self.epochs_done, module | optimizer, {_CURVE: list(self.curve)})

    def restore(self, state: TrainingState) -> None:
        """Go on from where `state` was taken."""
        self.module.load_state_dict(_under(_MODULE, state))
        restore_optimizer(self.optimizer, _under(_OPTIMIZER, state))
        curve = state.values[_CURVE]
        if isinstance(curve, list):
            self.curve[:] = [float(loss) for loss in curve if isinstance(loss, int | float)]


def masked_weights(candidate: Candidate) -> tuple[tuple[Tensor, Tensor], ...]:
    """The candidate's pruned parameters with their masks, alike in device and layout."""
    return tuple(_masked(candidate.module.get_parameter(name).data, mask) for name, mask in candidate.masks.items())


def _masked(weight: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return weight, torch.empty_like(weight, dtype=torch.bool).copy_(mask)


def _under(prefix: str, state: TrainingState) -> Mapping[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.tensors.items() if name.startswith(prefix)}
