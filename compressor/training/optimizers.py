"""Update rules, how their step size goes, and what they remember."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from contract.failures import UnfitModel
from contract.methods import Recipe

_KINDS: Mapping[str, Callable[..., Optimizer]] = {
    # Fused, an update passes over the weights once: three times as fast on a CPU.
    "adam": partial(Adam, fused=True),
    "adamw": partial(AdamW, fused=True),
    "sgd": partial(SGD, momentum=0.9, nesterov=True),
}
#: one_cycle rises from this part of the largest step size for this part of the time, and falls to nearly nothing.
_CYCLE_START, _CYCLE_RISE = 1 / 25, 0.3


def optimizer_for(module: nn.Module, recipe: Recipe) -> Optimizer:
    """The update rule for all trainable parameters; vectors (biases, norms) are not decayed (He et al. 2019, 3.1).

    Raises `UnfitModel` where there are none.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UnfitModel("The model has no weights that could be trained.")
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return _KINDS[recipe.optimizer]([g for g in groups if g["params"]], lr=recipe.learning_rate)


def rate_at(iteration: int, recipe: Recipe, *, iterations: int) -> float:
    """The step size of one iteration out of all."""
    rising = round(iterations * recipe.warmup_epochs / recipe.epochs)
    if iteration < rising:
        return recipe.learning_rate * (iteration + 1) / rising
    return recipe.learning_rate * _SCHEDULES[recipe.schedule]((iteration - rising) / (iterations - rising))


def _cosine(done: float) -> float:
    """Loshchilov and Hutter 2017, equation 5, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _step(done: float) -> float:
    return 0.01 if done >= 0.75 else 0.1 if done >= 0.5 else 1.0


def _one_cycle(done: float) -> float:
    """Smith and Topin 2019, with cosines for ramps."""
    if done < _CYCLE_RISE:
        return 1 - (1 - _CYCLE_START) * _cosine(done / _CYCLE_RISE)
    return _cosine((done - _CYCLE_RISE) / (1 - _CYCLE_RISE))


#: From the done part of the time (0 to 1) to the part of the largest step size.
_SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "step": _step,
}


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
