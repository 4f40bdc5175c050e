"""The one training loop: fine-tuning and distillation differ in their objective alone."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Batch, Images
from compressor.training.layout import channels_last, contiguous
from compressor.training.objectives import Objective
from compressor.training.optimizers import optimizer_for, rate_at, set_rate
from compressor.training.state import Run, masked_weights
from contract.failures import MissingData, TrainingDiverged
from contract.methods import Training


def training_images(context: Context) -> Images:
    """The training data; raises `MissingData` where the job has none."""
    if context.train is None:
        raise MissingData("Training needs data. Name a dataset under data.train.")
    return context.train


def train(candidate: Candidate, params: Training, context: Context, *, objective: Objective) -> None:
    """Train the candidate's module in place, keeping pruned weights at zero; it is left in eval mode.

    A training that goes on from a checkpoint ends with the weights of an uninterrupted one, bit for bit on the same
    machine and threads: what chance decides follows from the seed, the epoch and the image alone. Raises
    `UnfitModel`, `TrainingDiverged`, and `Interrupted` behind the last checkpoint where the job was asked to stop.
    """
    images = training_images(context)
    module = channels_last(candidate.module.to(context.device)).train()
    run = Run(module, optimizer_for(module, params), masked_weights(candidate))
    resumed = context.checkpoints.resume()
    if resumed is not None:
        run.restore(resumed)
    skipped, began = run.epochs_done, time.perf_counter()
    while run.epochs_done < params.epochs:
        run.curve.append(_epoch(run, params, context, objective, images=images))
        context.record("train_loss", list(run.curve))
        context.checkpoints.save(run.state())
    seconds = max(time.perf_counter() - began, 1e-9)
    context.record("images_per_second", round((run.epochs_done - skipped) * len(images) / seconds, 1))
    contiguous(module).eval()


def _epoch(run: Run, params: Training, context: Context, objective: Objective, *, images: Images) -> float:
    """All images once; the mean of the batches' losses."""
    epoch, per_epoch = run.epochs_done, len(images.batch_sizes(params.batch_size))
    phase = f"epoch {epoch + 1} of {params.epochs}"
    total = torch.zeros((), dtype=torch.float64, device=context.device)
    with torch.random.fork_rng(devices=_cuda(context)):
        # Dropout and stochastic depth draw from the global generator.
        torch.manual_seed((context.seed * 1_000_003 + epoch) % 2**63)
        for number, batch in enumerate(_batches(images, params, context, epoch=epoch)):
            iteration = epoch * per_epoch + number
            set_rate(run.optimizer, rate_at(iteration, params, iterations=params.epochs * per_epoch))
            total += _step(run, objective, batch)
            context.progress((epoch + (number + 1) / per_epoch) / params.epochs, phase)
    mean = float(total) / per_epoch
    if not torch.isfinite(total):
        raise TrainingDiverged(f"The loss is {mean} in {phase}.")
    return mean


def _batches(images: Images, params: Training, context: Context, *, epoch: int) -> Iterator[Batch]:
    for batch in images.batches(params.batch_size, seed=context.seed, epoch=epoch, augment=params.augment):
        x = batch.x.to(context.device, memory_format=torch.channels_last)
        yield Batch(x, batch.y.to(context.device), batch.index)


def _cuda(context: Context) -> list[torch.device]:
    return [context.device] if context.device.type == "cuda" else []


def _step(run: Run, objective: Objective, batch: Batch) -> Tensor:
    run.optimizer.zero_grad(set_to_none=True)
    loss = objective(run.module(batch.x), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.apply_masks()
    return loss.detach()
