"""Does a job's steps, one after the other, and leaves after each what is needed to go on from there."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from compressor.blame import blaming
from compressor.candidate import Candidate
from compressor.checkpoints import (
    Checkpoint,
    Position,
    StepCheckpoints,
    TrainingPosition,
    candidate_folder,
    read_checkpoint,
    write_checkpoint,
)
from compressor.context import Context, Interrupted, TrainingState
from compressor.data.origin import Sight
from compressor.exports.openvino_nncf import Unquantized
from compressor.materials import Materials, Other, frozen
from compressor.measure.accuracy import top1
from compressor.measure.probe import Probe
from compressor.measure.state import State, measured, step_report
from compressor.method import method
from compressor.models import files
from compressor.order import Desk, Order
from compressor.pace import Pace
from compressor.quantization.processor import meant
from compressor.rescue import leave
from compressor.stopwatch import Stopwatch
from contract.artifact import Quantizer
from contract.methods.params import step_named
from contract.methods.quantize import QuantizeStatic
from contract.report import Notice, NoticeCode, StepReport
from contract.value import Json

#: The file of a candidate whose bytes are its size.
WEIGHTS = "model.safetensors"


def step_seed(seed: int, index: int) -> int:
    """The seed of one step; one bit short of 64, as torch's generators want it."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class _Underway:
    """The step that is being done, and what its method has said so far."""

    reports: tuple[StepReport, ...]
    details: dict[str, Json]
    warnings: list[Notice]
    #: On the monotonic clock; earlier by what an interrupted attempt took.
    began: float

    @classmethod
    def at(cls, position: Position) -> Self:
        """The step at which the position stands, begun now or before the interruption."""
        began = time.monotonic() - position.seconds
        return cls(position.reports, dict(position.details), list(position.warnings), began)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def record(self, name: str, value: Json) -> None:
        self.details[name] = value

    def notice(self, code: NoticeCode, detail: str) -> None:
        notice = Notice(code=code, detail=detail)
        # A method that goes on where it was interrupted, or works in rounds, says again what it has said.
        if notice not in self.warnings:
            self.warnings.append(notice)

    def checkpoint(self, training: TrainingState) -> Checkpoint:
        """Where the job stands with the training in this state."""
        position = Position(
            reports=self.reports,
            training=TrainingPosition(epochs_done=training.epochs_done, values=dict(training.values)),
            details=self.details,
            warnings=tuple(self.warnings),
            seconds=self.seconds,
        )
        return Checkpoint(position, training.tensors)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of one order."""

    order: Order
    desk: Desk
    materials: Materials
    probe: Probe
    original: State
    pace: Pace
    stopwatch: Stopwatch
    #: Whether an earlier step's candidate may be delivered in the end, and so is kept.
    keep_all: bool

    def run(self) -> tuple[State, tuple[StepReport, ...]]:
        """Do every step that is not done yet; the state after the last, and the report of each.

        Raises the failure of a step, or Interrupted behind a checkpoint where the desk asks to stop.
        """
        start = self._start()
        for report in start.position.reports:
            self.pace.finish(report.seconds)
        state = self._restored(start.position.step_index)
        while start.position.step_index < len(self.order.spec.steps):
            state, report = self._do(state, start)
            start = Checkpoint(Position(reports=(*start.position.reports, report)))
            # Told before it is kept: whoever goes on from the checkpoint does not tell it again.
            self.desk.step_succeeded(start.position.step_index - 1, report)
            self._keep(start)
            self._leave(start.position.step_index - 1)
            if self.desk.stop_requested():
                raise Interrupted
        return state, start.position.reports

    def state_after(self, index: int) -> State:
        """The state that a step has left, measured again."""
        folder = candidate_folder(self.order.scratch, index)
        return measured(files.read(folder), folder / WEIGHTS, self.probe, self._device)

    def unquantized(self) -> Unquantized:
        """The model before quantize_static, and what that step was given, as one that takes its place wants it."""
        index, step = self._measuring
        materials, seed = self.materials.at(index), step_seed(self.order.spec.seed, index)
        assert materials.calibration is not None
        return Unquantized(
            candidate=files.read(candidate_folder(self.order.scratch, index - 1)) if index else materials.begin(),
            images=materials.calibration.take(step.samples, seed=seed),
            target=meant(step.target),
        )

    @property
    def _measuring(self) -> tuple[int, QuantizeStatic]:
        return next((i, step) for i, step in enumerate(self.order.spec.steps) if isinstance(step, QuantizeStatic))

    @property
    def _device(self) -> torch.device:
        return torch.device(self.order.device)

    def _start(self) -> Checkpoint:
        if self.order.resume is None:
            return Checkpoint(Position())
        return read_checkpoint(self.order.resume, self.order.scratch)

    def _restored(self, done: int) -> State:
        if not done:
            return replace(self.original, candidate=self.materials.begin())
        self._leave(done - 1)
        return self.state_after(done - 1)

    def _leave(self, index: int) -> None:
        """From here on, what the step has made can be had however the job ends."""
        self.desk.files_left(leave(candidate_folder(self.order.scratch, index), self.order.out))

    def _do(self, before: State, start: Checkpoint) -> tuple[State, StepReport]:
        index = start.position.step_index
        step, underway = self.order.spec.steps[index], _Underway.at(start.position)
        self.desk.step_started(index)
        with blaming(index):
            made = method(step.method)(before.candidate, step, self._context(index, underway, start))
            state = measured(made, self._write(index, made), self.probe, self._device)
        self.pace.finish()
        report = step_report(state, before, self.original, self.probe, seconds=underway.seconds)
        said = {"details": underway.details, "warnings": tuple(underway.warnings)}
        return state, report.model_copy(update=said)

    def _context(self, index: int, underway: _Underway, start: Checkpoint) -> Context:
        seed, materials = step_seed(self.order.spec.seed, index), self.materials.at(index)
        torch.manual_seed(seed)
        return Context(
            device=self._device,
            seed=seed,
            train=materials.train,
            calibration=materials.calibration,
            others={**materials.others, **self._earlier(index)},
            progress=self.pace.advance,
            record=underway.record,
            notice=underway.notice,
            time=self.stopwatch,
            right=self._right,
            checkpoints=StepCheckpoints(
                lambda training: self._keep(underway.checkpoint(training)),
                start=start.training,
                stop_requested=self.desk.stop_requested,
                every=self.order.checkpoint_seconds,
            ),
        )

    def _right(self, module: nn.Module, sights: Sequence[Sight]) -> Tensor | None:
        probe = self.probe.seen_in(sights)
        return None if probe.labels is None else top1(probe.answers(module, device=self._device)) == probe.labels

    def _earlier(self, index: int) -> dict[str, Other]:
        """The models as earlier steps left them, of those that are named."""

        def left_by(number: int) -> Other:
            folder = candidate_folder(self.order.scratch, number)
            return lambda: frozen(files.read(folder), self._device)

        return {f"step_{number}": left_by(number) for number in self._named if number < index}

    @property
    def _named(self) -> frozenset[int]:
        """The steps whose models later ones name."""
        names = (name for step in self.order.spec.steps for name in step.models.values())
        return frozenset(number for number in map(step_named, names) if number is not None)

    @property
    def _kept(self) -> frozenset[int]:
        """Those whose models something else than the next step needs."""
        by_another = any(output.options.quantizer is not Quantizer.PLAN for output in self.order.spec.outputs)
        return self._named | ({self._measuring[0] - 1} if by_another else frozenset())

    def _write(self, index: int, candidate: Candidate) -> Path:
        """Write the step's candidate in the place of the one before it; the file that holds its weights."""
        folder = candidate_folder(self.order.scratch, index)
        folder.mkdir(parents=True)
        files.write(candidate, folder)
        if index and not self.keep_all and index - 1 not in self._kept:
            shutil.rmtree(candidate_folder(self.order.scratch, index - 1))
        return folder / WEIGHTS

    def _keep(self, checkpoint: Checkpoint) -> None:
        path = self.order.scratch / "checkpoint.zip"
        write_checkpoint(path, checkpoint, self.order.scratch)
        at = checkpoint.position
        self.desk.checkpoint(
            path, {"step_index": at.step_index, "epochs_done": at.training.epochs_done if at.training else 0}
        )
