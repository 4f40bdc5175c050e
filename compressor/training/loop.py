"""The one training loop: fine-tuning, distillation, sparse training, gradual pruning are objectives and hooks of it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Batch, Images
from compressor.freezing import freeze
from compressor.measure.accuracy import BATCH, answers, loss
from compressor.measure.counting import evaluating
from compressor.quantization.levels import LevelCodes
from compressor.quantization.plan import tensors_of
from compressor.training.average import Average
from compressor.training.layout import channels_last, contiguous
from compressor.training.mixing import mixed
from compressor.training.objectives import Objective
from compressor.training.optimizers import optimizer_for, rate_at, set_rate
from compressor.training.precision import autocast, in_bf16
from compressor.training.splitting import Split
from compressor.training.state import AfterUpdate, Run
from compressor.training.straight import Straight
from compressor.training.weighted import Weighted
from contract.failures import TrainingDiverged
from contract.methods import Recipe


def nothing(run: Run, iteration: int) -> None:
    """What is done behind an update where nothing is asked for."""
    del run, iteration


def train(
    candidate: Candidate,
    recipe: Recipe,
    context: Context,
    *,
    objective: Objective,
    images: Split,
    judged_by: Objective | None = None,
    after_update: AfterUpdate = nothing,
    settled: int = 0,
    cycles: int = 1,
) -> Run:
    """Train the candidate's module in place, keeping pruned weights at zero; it is left in eval mode.

    Epochs are judged on held-out images by their labels, or by `judged_by` where it is given. The recipe's schedule is
    gone through `cycles` times; `after_update` is told of every update, and may change masks until the one of number
    `settled`: no epoch that ends before it counts as the best.

    A training that goes on from a checkpoint ends with the weights of an uninterrupted one, bit for bit on the same
    machine and threads: what chance decides follows from the seed, the epoch and the image alone. Raises
    `UnfitModel`, `TrainingDiverged`, and `Interrupted` behind the last checkpoint where the job was asked to stop.
    """
    work = _Work(
        candidate, recipe, context,
        objective=objective, images=images, judged_by=judged_by, after_update=after_update, settled=settled,
        cycles=cycles,
    )  # fmt: skip
    resumed = context.checkpoints.resume()
    if resumed is not None:
        work.run.restore(resumed)
    skipped, began = work.run.epochs_done, time.perf_counter()
    while not work.over:
        work.epoch()
        context.checkpoints.save(work.run.state())
    seconds = max(time.perf_counter() - began, 1e-9)
    done = (work.run.epochs_done - skipped) * len(images.learn)
    context.record("images_per_second", round(done / seconds, 1))
    work.finish()
    return work.run


class _Work:
    """One training: what it works with, and what it does."""

    def __init__(
        self,
        candidate: Candidate,
        recipe: Recipe,
        context: Context,
        *,
        objective: Objective,
        images: Split,
        judged_by: Objective | None,
        after_update: AfterUpdate,
        settled: int,
        cycles: int,
    ) -> None:
        module = channels_last(candidate.module.to(context.device)).train()
        average = Average(module, decay=recipe.average) if recipe.average else None
        codes = candidate.plan.levels
        straight = Straight(module, codes, candidate.masks) if codes else None
        # What an objective learns is trained with the network; averages, masks and codes are of the network alone.
        weighted = objective if isinstance(objective, Weighted) else None
        self._learners = nn.ModuleList([module, *([weighted] if weighted else [])])
        optimizer = optimizer_for(self._learners, recipe)
        self._per_epoch = len(images.learn.batch_sizes(recipe.batch_size))
        self.run = Run(
            module=module, optimizer=optimizer, average=average, straight=straight, objective=weighted,
            settled=settled // self._per_epoch,
        )  # fmt: skip
        for name, kept in candidate.masks.items():
            self.run.mask(name, kept)
        self._recipe, self._context, self._objective = recipe, context, objective
        self._images, self._judged_by, self._after_update = images, judged_by, after_update
        self._classes = candidate.num_classes if images.learn.labelled else None
        self._bf16 = in_bf16(recipe, module, context.device)
        self._cycles, self._updates = cycles, recipe.epochs * self._per_epoch

    @property
    def over(self) -> bool:
        """Whether no epoch is left, or none has been better for too long."""
        patience = self._recipe.patience
        stale = patience is not None and self.run.epochs_since_best >= patience
        return stale or self.run.epochs_done >= self._recipe.epochs

    def epoch(self) -> None:
        """See all images once, and judge what came of it."""
        number = self.run.epochs_done
        with torch.random.fork_rng(devices=_cuda(self._context)):
            # Dropout, stochastic depth and mixing draw from the global generator.
            torch.manual_seed((self._context.seed * 1_000_003 + number) % 2**63)
            self.run.curve.append(self._seen(number))
        self._context.record("train_loss", list(self.run.curve))
        self._tell_terms()
        if self._images.held_out is not None:
            self._judge()

    def _tell_terms(self) -> None:
        """The mean of each of the objective's terms in each epoch, where it has terms."""
        if self.run.objective is not None:
            for name, mean in self.run.objective.means().items():
                self.run.terms.setdefault(name, []).append(mean)
            self._context.record("terms", {name: list(curve) for name, curve in self.run.terms.items()})

    def _seen(self, epoch: int) -> float:
        """The mean loss of an epoch's batches."""
        phase = f"epoch {epoch + 1} of {self._recipe.epochs}"
        total = torch.zeros((), dtype=torch.float64, device=self._context.device)
        seen, began, rate = 0, 0.0, ""
        for number, batch in enumerate(self._batches(epoch)):
            total += self._update(batch, epoch * self._per_epoch + number)
            # What is done once, as asking a teacher for all answers, is done in the first.
            if number:
                seen += len(batch.x)
                rate = f", {seen / (time.perf_counter() - began):,.1f} images/s"
            else:
                began = time.perf_counter()
            done = epoch + (number + 1) / self._per_epoch
            self._context.progress(done / self._recipe.epochs, phase + rate)
        mean = float(total) / self._per_epoch
        if not torch.isfinite(total):
            raise TrainingDiverged(f"The loss is {mean} in {phase}.")
        return mean

    def _batches(self, epoch: int) -> Iterator[Batch]:
        recipe, context = self._recipe, self._context
        for one in self._images.learn.batches(
            recipe.batch_size, seed=context.seed, epoch=epoch, augment=recipe.augment, device=context.device
        ):
            batch = replace(one, x=one.x.contiguous(memory_format=torch.channels_last))
            yield batch if recipe.mix == "none" else mixed(batch, recipe.mix, classes=self._classes)

    def _update(self, batch: Batch, iteration: int) -> Tensor:
        run, recipe = self.run, self._recipe
        if iteration >= recipe.normalizing * self._updates:
            freeze(run.module)
        set_rate(run.optimizer, self._rate(iteration))
        run.optimizer.zero_grad(set_to_none=True)
        with autocast(self._context.device, bf16=self._bf16):
            logits = run.module(batch.x)
        found = self._objective(logits.float(), batch)
        found.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._learners.parameters(), recipe.clip_norm)
        if run.straight is not None:
            run.straight.release()
        run.optimizer.step()
        self._after_update(run, iteration)
        if run.average is not None:
            run.average.update()
        run.apply_masks()
        if run.straight is not None:
            run.straight.encode()
        return found.detach()

    def _rate(self, iteration: int) -> float:
        """The step size; the last cycle takes the updates that cannot be shared out equally."""
        length = max(1, self._updates // self._cycles)
        number = min(iteration // length, self._cycles - 1)
        if number == self._cycles - 1:
            return rate_at(iteration - number * length, self._recipe, iterations=self._updates - number * length)
        return rate_at(iteration - number * length, self._recipe, iterations=length)

    def _judge(self) -> None:
        """The loss on the held-out images, and the weights where it is the least so far."""
        run, held_out = self.run, self._images.held_out
        assert held_out is not None
        with run.average.in_place() if run.average else nullcontext():
            codes = self._judged_codes()
            self._compare(self._loss_on(held_out), codes)
        self._context.record("held_out_loss", list(run.judged))

    def _loss_on(self, held_out: Images) -> float:
        device, module = self._context.device, self.run.module
        if self._judged_by is None:
            return loss(answers(module, held_out, device=device), held_out.labels)
        with evaluating(module):
            found = [
                len(batch.index) * float(self._judged_by(module(batch.x).float(), batch))
                for batch in held_out.batches(BATCH, device=device)
            ]
        return sum(found) / len(held_out)

    def _judged_codes(self) -> Mapping[str, LevelCodes]:
        """The codes with which the module answers; an average is coded for the time being."""
        straight = self.run.straight
        if straight is None:
            return {}
        return straight.codes if self.run.average is None else straight.rounded()

    def _compare(self, found: float, codes: Mapping[str, LevelCodes]) -> None:
        run = self.run
        run.judged.append(found)
        if self._recipe.keep == "best" and run.epochs_since_best == 0:
            tensors = run.module.state_dict() | tensors_of(codes)
            run.best = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def finish(self) -> None:
        """Leave in the module what shall be kept of it."""
        run = self.run
        if run.best:
            self._take_best()
            self._context.record("epoch_kept", len(run.judged) - run.epochs_since_best)
        elif run.average is not None:
            run.average.take_over()
            if run.straight is not None:
                run.straight.encode()
        run.apply_masks()
        contiguous(run.module).eval()

    def _take_best(self) -> None:
        run = self.run
        run.module.load_state_dict({name: run.best[name] for name in run.module.state_dict()})
        if run.straight is not None:
            run.straight.take(run.best)


def _cuda(context: Context) -> list[torch.device]:
    return [context.device] if context.device.type == "cuda" else []
