"""Update rules, how their step size falls, and what they remember."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from contract.failures import UnfitModel
from contract.methods import Training

_KINDS: Mapping[str, Callable[..., Optimizer]] = {
    # Fused, an update passes over the weights once: three times as fast on a CPU.
    "adam": partial(Adam, fused=True),
    "adamw": partial(AdamW, fused=True),
    "sgd": partial(SGD, momentum=0.9, nesterov=True),
}


def optimizer_for(module: nn.Module, params: Training) -> Optimizer:
    """The update rule for all trainable parameters; vectors (biases, norms) are not decayed (He et al. 2019, 3.1).

    Raises `UnfitModel` where there are none.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UnfitModel("The model has no weights that could be trained.")
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return _KINDS[params.optimizer]([g for g in groups if g["params"]], lr=params.learning_rate)


def rate_at(iteration: int, params: Training, *, iterations: int) -> float:
    """The step size of one iteration out of all (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    if params.schedule == "constant":
        return params.learning_rate
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Update with this step size from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers of each parameter, by `INDEX.NAME`."""
    return {
        f"{index}.{name}": value
        for index, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizer back what `optimizer_tensors` took.

    Each tensor gets its parameter's layout in memory, which a file does not keep and a fused update relies on.
    """
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        like = parameter if value.shape == parameter.shape else value
        optimizer.state[parameter][name] = torch.empty_like(like, device=parameter.device, dtype=value.dtype).copy_(
            value
        )


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
