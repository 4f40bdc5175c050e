"""The one training loop: fine-tuning and distillation differ in their objective alone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from compressor.candidate import Candidate
from compressor.context import Context, TrainingState
from compressor.data.images import Batch, Images
from compressor.training.layout import channels_last, contiguous
from compressor.training.objectives import Objective
from compressor.training.optimizers import optimizer_for, optimizer_tensors, restore_optimizer, schedule_for
from contract.failures import MissingData, TrainingDiverged
from contract.methods import Training

_MODULE, _OPTIMIZER, _CURVE = "module.", "optimizer.", "train_loss"


@dataclass(frozen=True)
class _Run:
    """One training underway."""

    module: nn.Module
    #: Pruned parameters and which of their entries are kept.
    masked: tuple[tuple[Tensor, Tensor], ...]
    optimizer: Optimizer
    schedule: LambdaLR
    #: Mean loss of each epoch.
    curve: list[float]


def training_images(context: Context) -> Images:
    """The training data; raises `MissingData` where the job has none."""
    if context.train is None:
        raise MissingData("Training needs data. Name a dataset under data.train.")
    return context.train


def train(candidate: Candidate, params: Training, context: Context, *, objective: Objective) -> None:
    """Train the candidate's module in place, keeping pruned weights at zero; it is left in eval mode.

    A training that goes on from a checkpoint ends with the weights of an uninterrupted one, bit for bit on the same
    machine and threads: what chance decides follows from the seed, the epoch and the image alone. Raises
    `TrainingDiverged`, and `Interrupted` behind the last checkpoint where the job has been asked to stop.
    """
    images = training_images(context)
    module = channels_last(candidate.module.to(context.device)).train()
    resumed = context.checkpoints.resume()
    done = resumed.epochs_done if resumed else 0
    run = _begin(module, candidate, params, images=images, resumed=resumed)
    started = time.perf_counter()
    for epoch in range(done, params.epochs):
        run.curve.append(_epoch(run, params, context, objective, images=images, epoch=epoch))
        context.record(_CURVE, list(run.curve))
        context.checkpoints.save(_state(run, epoch + 1))
    context.record("images_per_second", round((params.epochs - done) * len(images) / _since(started), 1))
    contiguous(module).eval()


def _since(started: float) -> float:
    return max(time.perf_counter() - started, 1e-9)


def _begin(
    module: nn.Module, candidate: Candidate, params: Training, *, images: Images, resumed: TrainingState | None
) -> _Run:
    if resumed:
        module.load_state_dict(_under(_MODULE, resumed))
    optimizer = optimizer_for(module, params)
    if resumed:
        restore_optimizer(optimizer, _under(_OPTIMIZER, resumed))
    per_epoch = len(list(_sizes(images, params)))
    done = resumed.epochs_done * per_epoch if resumed else 0
    schedule = schedule_for(optimizer, params, iterations=params.epochs * per_epoch, done=done)
    masked = [(module.get_parameter(name), mask) for name, mask in candidate.masks.items()]
    curve = resumed.values.get(_CURVE) if resumed else []
    return _Run(
        module,
        tuple((weight.data, mask.to(weight.device)) for weight, mask in masked),
        optimizer,
        schedule,
        [float(value) for value in curve if isinstance(value, int | float)] if isinstance(curve, list) else [],
    )


def _under(prefix: str, state: TrainingState) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.tensors.items() if n.startswith(prefix)}


def _sizes(images: Images, params: Training) -> Iterator[int]:
    """The sizes of an epoch's batches, without a last one that batch normalization could not take."""
    whole, rest = divmod(len(images), params.batch_size)
    yield from (params.batch_size for _ in range(whole))
    if rest > 1 or (rest and not whole):
        yield rest


def _batches(images: Images, params: Training, context: Context, *, epoch: int) -> Iterator[Batch]:
    batches = images.batches(params.batch_size, seed=context.seed, epoch=epoch, augment=params.augment)
    for _, batch in zip(_sizes(images, params), batches, strict=False):
        x = batch.x.to(context.device, memory_format=torch.channels_last)
        yield Batch(x, batch.y.to(context.device), batch.index)


def _epoch(run: _Run, params: Training, context: Context, objective: Objective, *, images: Images, epoch: int) -> float:
    phase = f"epoch {epoch + 1} of {params.epochs}"
    count = len(list(_sizes(images, params)))
    total = torch.zeros((), dtype=torch.float64, device=context.device)
    with torch.random.fork_rng(devices=_cuda(context)):
        # Dropout and stochastic depth draw from the global generator.
        torch.manual_seed((context.seed * 1_000_003 + epoch) % 2**63)
        for number, batch in enumerate(_batches(images, params, context, epoch=epoch)):
            total += _step(run, objective, batch)
            context.progress((epoch + (number + 1) / count) / params.epochs, phase)
    mean = float(total) / count
    if not torch.isfinite(total):
        raise TrainingDiverged(f"The loss is {mean} in {phase}.")
    return mean


def _cuda(context: Context) -> list[torch.device]:
    return [context.device] if context.device.type == "cuda" else []


def _step(run: _Run, objective: Objective, batch: Batch) -> Tensor:
    run.optimizer.zero_grad(set_to_none=True)
    loss = objective(run.module(batch.x), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.schedule.step()
    for weight, mask in run.masked:
        weight.mul_(mask)
    return loss.detach()


def _state(run: _Run, epochs_done: int) -> TrainingState:
    module = {_MODULE + name: tensor for name, tensor in run.module.state_dict().items()}
    optimizer = {_OPTIMIZER + name: tensor for name, tensor in optimizer_tensors(run.optimizer).items()}
    return TrainingState(epochs_done, module | optimizer, {_CURVE: list(run.curve)})
