"""Update rules and how their step size falls."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from contract.methods import Training

_KINDS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": lambda groups, **options: SGD(groups, momentum=0.9, nesterov=True, **options),
}


def optimizer_for(module: nn.Module, params: Training) -> Optimizer:
    """The update rule over all trainable parameters; vectors (biases, norms) are not decayed (He et al. 2019, 3.1)."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return _KINDS[params.optimizer]([g for g in groups if g["params"]], lr=params.learning_rate)


def schedule_for(optimizer: Optimizer, params: Training, *, iterations: int, done: int) -> LambdaLR:
    """The step size of every iteration, from iteration `done` on (Loshchilov and Hutter 2017, equation 5)."""

    def factor(step: int) -> float:
        if params.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (done + step) / iterations)))

    return LambdaLR(optimizer, factor)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """What the optimizer remembers of each parameter, by `INDEX.NAME`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, own in state.items()
        for name, value in own.items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Give the optimizer back what `optimizer_tensors` took."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
