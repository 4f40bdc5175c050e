"""Applies a job's steps in order, and proves what came out."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compressor.choice import Choice, Chooser
from compressor.manifest import audit, listed, listed_proofs
from compressor.materials import Materials, read_materials
from compressor.measure.counting import count_macs
from compressor.measure.probe import Probe, probe
from compressor.measure.state import State, measured
from compressor.models import files
from compressor.notices import notices
from compressor.order import DataInput, Desk, Inputs, ModelInput, Order, Outcome
from compressor.pace import Pace, Workload, stages
from compressor.preflight import check_outputs, check_steps
from compressor.report.document import ReportDocument
from compressor.report.page import write_reports
from compressor.rescue import files_left
from compressor.steps import WEIGHTS, Steps
from compressor.stopwatch import Stopwatch
from compressor.verify import Bench
from contract.failures import ConstraintUnmet, UnfitModel
from contract.job import JobResult, Verdict

__all__ = ["DataInput", "Desk", "Inputs", "ModelInput", "Order", "Outcome", "compress", "files_left"]


def compress(order: Order, desk: Desk) -> Outcome:
    """Do the job.

    Raises a `contract.failures.Failure` where it cannot be done, and `compressor.context.Interrupted` where the desk
    asked it to stop; the last checkpoint is then at the desk.
    """
    torch.set_num_threads(order.threads)
    for folder in (order.out, order.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    materials = read_materials(order)
    check_steps(order.spec.steps, materials)
    check_outputs(order.spec.outputs, materials)
    return _Job(order, desk, materials).run()


@dataclass(frozen=True)
class _Job:
    order: Order
    desk: Desk
    materials: Materials

    def run(self) -> Outcome:
        """Measure, do the steps, prove the files."""
        inputs, spec = self._probe(), self.order.spec
        stopwatch = self._stopwatch()
        work = self._workload()
        pace = Pace(stages(spec.steps, work), self.desk.progress)
        pace.advance(0.0, "measuring the original")
        began = time.monotonic()
        original = self._measure_original(inputs)
        pace.expect(stages(spec.steps, work.at_rate(images=len(inputs), seconds=time.monotonic() - began)))
        pace.finish()
        steps = Steps(
            order=self.order,
            desk=self.desk,
            materials=self.materials,
            probe=inputs,
            original=original,
            pace=pace,
            stopwatch=stopwatch,
            keep_all=bool(spec.constraints) and spec.on_unmet == "keep_best",
        )
        last, reports = steps.run()
        bench = Bench(
            original=original,
            probe=inputs,
            scratch=self.order.scratch,
            batch_size=stopwatch.batch_size,
            threads=stopwatch.threads,
        )
        chooser = Chooser(
            order=self.order,
            bench=bench,
            state_after=steps.state_after,
            unquantized=steps.unquantized,
            progress=pace.advance,
            stop_requested=self.desk.stop_requested,
        )
        return self._hand_over(chooser.choose(last, reports))

    def _probe(self) -> Probe:
        spec = self.order.spec
        m = self.materials.at(len(spec.steps))
        places = m.kept.places if m.kept else None
        return probe(m.evaluation, m.calibration, input_shape=m.original.input_shape, seed=spec.seed, classes=places)

    def _stopwatch(self) -> Stopwatch:
        asked = self.order.spec.evaluation.latency
        threads = asked.threads or self.order.threads
        return Stopwatch(scratch=self.order.scratch, batch_size=asked.batch_size, threads=threads)

    def _workload(self) -> Workload:
        m = self.materials
        return Workload(
            macs=count_macs(m.original.module, m.original.input_shape).total,
            train_images=len(m.train) if m.train else 0,
            evaluation_images=len(m.evaluation) if m.evaluation else 0,
            files=len(self.order.spec.outputs),
            threads=self.order.threads,
        )

    def _measure_original(self, inputs: Probe) -> State:
        original, folder = self.materials.original, self.order.scratch / "original"
        try:
            files.write(original, folder)
            return measured(original, folder / WEIGHTS, inputs, torch.device(self.order.device))
        except UnfitModel as failure:
            raise UnfitModel(f"As it was uploaded, before any step: {failure.detail}") from failure

    def _hand_over(self, choice: Choice) -> Outcome:
        """Put the files and the reports into the order's folder; raises ConstraintUnmet where the job says so."""
        spec, out = self.order.spec, self.order.out
        refused = not choice.met and spec.on_unmet == "fail"
        for proof in choice.proofs:
            for path in proof.delivery.files.values():
                shutil.move(path, out / path.name)
        document = ReportDocument(
            architecture=self.materials.original.architecture,
            spec=spec,
            result=self._result(choice),
            steps=choice.steps,
            files=listed_proofs(choice.proofs, out, partial=refused),
        )
        audit(document, out)
        written = write_reports(document, out)
        if refused:
            raise ConstraintUnmet(_unmet(choice.verdicts))
        return Outcome(document.result, (*document.files, *map(listed, written)))

    def _result(self, choice: Choice) -> JobResult:
        spec = self.order.spec
        return JobResult(
            report=choice.report,
            outcome=("met" if choice.met else "unmet") if spec.constraints else None,
            constraints=choice.verdicts,
            warnings=(
                *self.materials.notices,
                *notices(spec, choice.report, choice.state.candidate.masked_count, choice.proofs),
                *(warning for step in choice.steps for warning in step.warnings),
            ),
        )


def _unmet(found: Sequence[Verdict]) -> str:
    sentences = (
        f"{verdict.metric} ({verdict.kind} {verdict.value:g}) is "
        + ("not measured" if verdict.actual is None else f"{verdict.actual:.4g}")
        for verdict in found
        if not verdict.met
    )
    return f"Not met: {'; '.join(sentences)}."
