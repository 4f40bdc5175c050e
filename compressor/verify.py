"""The truth test: every delivered file is loaded, run and measured by a clean process before it is delivered."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from compressor.delivery import Delivery, deliver
from compressor.exports import openvino_swish
from compressor.exports.onnx import opset
from compressor.format import runtime_of
from compressor.measure.accuracy import accuracy, paired_drop, top1
from compressor.measure.clean_process import CleanProcess, clean_process
from compressor.measure.fidelity import agreement, max_difference
from compressor.measure.latency import Timing, time_side_by_side
from compressor.measure.probe import Probe
from compressor.measure.state import State
from compressor.models import files
from contract.artifact import OutputFormat, OutputPrecision
from contract.failures import ArtifactMismatch, ExportFailed
from contract.report import Verification
from contract.spec import Output

#: Of the largest logit: how far a float32 file may be from the candidate.
FLOAT32_TOLERANCE = 1e-3
#: The same for one that computes in float16.
FLOAT16_TOLERANCE = 1e-2
#: Part of the images that a quantized file must put where the candidate puts them.
LEAST_AGREEMENT = 0.98
#: Of the largest logit: where a candidate's two best answers are closer than this, either is right. Integer kernels and
#: their float simulation round a tie differently, and the difference goes on through the layers behind it.
NEAR_TIE = 0.02
#: How much larger the squared error of a file that rounds elsewhere than the candidate may be than the candidate's own.
LARGEST_ERROR = 1.5
#: Of the largest logit: how far a quantized file may at least be from the candidate on noise.
QUANTIZED_TOLERANCE = 0.1


@dataclass(frozen=True)
class Figures:
    """What a clean process found out about one file."""

    size_bytes: int
    load_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Proof:
    """One delivery that has passed, and its baseline beside it."""

    delivery: Delivery
    verification: Verification
    figures: Figures
    baseline: Figures
    #: The file's own answers to the probe, shape (inputs, classes).
    logits: Tensor


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a file should answer to the probe; answers are of shape (inputs, classes)."""

    #: What the candidate answers itself.
    answers: Tensor
    #: Gives what it answers without any rounding of activations.
    unrounded: Callable[[], Tensor]
    #: Whether the inputs are noise, to which no answer is clear.
    noise: bool
    #: Of the inputs, where there are some.
    labels: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where files are proven: against which original, on which inputs, with how many threads."""

    original: State
    probe: Probe
    scratch: Path
    batch_size: int
    threads: int
    _baselines: dict[OutputFormat, Delivery] = field(default_factory=dict, init=False, repr=False, compare=False)

    def baseline(self, form: OutputFormat) -> Delivery:
        """The original in this format, as float32; written once."""
        if form not in self._baselines:
            folder = self.scratch / "baseline" / form
            folder.mkdir(parents=True, exist_ok=True)
            output = Output(format=form, precision=OutputPrecision.FLOAT32)
            self._baselines[form] = deliver(self.original.candidate, output, folder)
        return self._baselines[form]

    @cached_property
    def onnx_or_none(self) -> Delivery | None:
        """The float32 ONNX file to which every format is compared; none where the original cannot be exported."""
        try:
            return self.baseline(OutputFormat.ONNX)
        except ExportFailed:
            return None

    @contextmanager
    def witness(self, delivery: Delivery) -> Iterator[tuple[CleanProcess, Figures]]:
        """A clean process that has loaded the delivery and run the batch that will be timed."""
        with clean_process(delivery.files, scratch=self.scratch, threads=self.threads) as process:
            process.prepare(self.probe.batch(self.batch_size))
            yield process, Figures(delivery.size_bytes, process.loaded.seconds, process.peak_memory())


def prove(delivery: Delivery, reference: Tensor, bench: Bench) -> Proof:
    """Put one delivery through the truth test.

    `reference` are the candidate's own answers to the probe before it was written. Raises ArtifactMismatch where the
    file does not compute them, or does not compute in integers what it should.
    """
    with ExitStack() as open_witnesses:
        file, figures = open_witnesses.enter_context(bench.witness(delivery))
        fraction = _check_integers(delivery)
        logits = torch.cat([file.answer(x) for x in bench.probe.batches()])
        check_answers(delivery, _expected(delivery, reference, bench.probe), logits)
        baseline, baseline_figures = open_witnesses.enter_context(bench.witness(bench.baseline(delivery.output.format)))
        _check_baseline(baseline, bench)
        third = bench.onnx_or_none if delivery.output.format is not OutputFormat.ONNX else None
        others = [open_witnesses.enter_context(bench.witness(third))[0]] if third else []
        timing = time_side_by_side([baseline, file, *others], batch_size=bench.batch_size, threads=bench.threads)
    verification = _verification(bench, reference, logits, timing).model_copy(
        update={
            "runtime": file.loaded.runtime,
            "int8_macs_fraction": fraction,
            "opset": opset(delivery.main) if delivery.output.format is OutputFormat.ONNX else None,
            "load_seconds": figures.load_seconds,
            "peak_memory_bytes": figures.peak_memory_bytes,
            "ratio_to_onnx_float32": _ratio_to_onnx(delivery, timing),
            "realized_by": delivery.realized_by,
        }
    )
    return Proof(delivery, verification, figures, baseline_figures, logits)


def _verification(bench: Bench, reference: Tensor, logits: Tensor, timing: Timing) -> Verification:
    labels, (baseline, file, *_) = bench.probe.labels, timing.latencies
    return Verification(
        runtime=file.runtime,
        accuracy=accuracy(logits, labels) if labels is not None else None,
        drop=paired_drop(bench.original.logits, logits, labels) if labels is not None else None,
        top1_agreement=agreement(reference, logits),
        max_abs_difference=max_difference(reference, logits),
        latency=file,
        baseline_latency=baseline,
        noisy_host=timing.noisy,
    )


def _ratio_to_onnx(delivery: Delivery, timing: Timing) -> float | None:
    baseline, file, *others = timing.latencies
    if delivery.output.format is OutputFormat.ONNX:
        return file.p50_ms / baseline.p50_ms
    return file.p50_ms / others[0].p50_ms if others else None


def _check_integers(delivery: Delivery) -> float | None:
    """The part of the MACs that the file does in integers; raises ArtifactMismatch where it should and does none."""
    plan, name = delivery.candidate.plan, delivery.main.name
    if plan.empty:
        return None
    stored = delivery.output.format is OutputFormat.SAFETENSORS
    if stored and files.read_plan(delivery.main.parent).document() != plan.document():
        raise ArtifactMismatch(f"{name} does not hold the numbers that it is said to hold.")
    fraction = runtime_of(delivery.main).int8_macs_fraction(delivery.main)
    if plan.rounds_activations and fraction == 0:
        raise ArtifactMismatch(f"{name} is said to compute in integers, and computes none of its MACs so.")
    return fraction


def _check_baseline(baseline: CleanProcess, bench: Bench) -> None:
    x = next(bench.probe.batches())
    _check_float32("The baseline", bench.original.logits[: len(x)], bench.probe.compared(baseline.answer(x)))


def _expected(delivery: Delivery, reference: Tensor, probe: Probe) -> Expected:
    module = delivery.candidate.module
    return Expected(
        answers=reference,
        unrounded=lambda: probe.answers(module),
        noise=probe.images is None,
        labels=probe.labels,
    )


def check_answers(delivery: Delivery, expected: Expected, found: Tensor) -> None:
    """Raise ArtifactMismatch where a file's answers, of shape (inputs, classes), are not the candidate's.

    One whose integers another library has chosen computes something else, and has to be right as often. On noise a
    quantized file may be as far from the candidate as quantizing its activations has moved the candidate
    itself, for the deepest networks let every tie grow.
    """
    name, reference = delivery.main.name, expected.answers
    if found.shape != reference.shape:
        raise ArtifactMismatch(f"{name} answers with shape {tuple(found.shape)}, not {tuple(reference.shape)}.")
    if delivery.output.precision is OutputPrecision.FLOAT16:
        _check_distance(name, reference, found, FLOAT16_TOLERANCE)
    elif not delivery.candidate.plan.rounds_activations:
        _check_float32(name, reference, found)
    elif delivery.realized_by is not None:
        _check_accuracy(delivery, expected, found)
    elif expected.noise:
        moved = max_difference(reference, expected.unrounded()) / max(float(reference.abs().max()), 1e-12)
        _check_distance(name, reference, found, max(QUANTIZED_TOLERANCE, moved))
    else:
        _check_agreement(delivery, expected, found)


def _rounds_as_well(delivery: Delivery, expected: Expected, found: Tensor) -> bool:
    """Whether a file that rounds less often than the candidate, as swishes in OpenVINO do, is as right as it is."""
    if delivery.output.format is not OutputFormat.OPENVINO or not openvino_swish.joined(delivery.main):
        return False
    exact = expected.unrounded()
    own, error = (float((answers - exact).square().mean()) for answers in (expected.answers, found))
    return error <= LARGEST_ERROR * own


def _check_float32(name: str, reference: Tensor, found: Tensor) -> None:
    _check_distance(name, reference, found, FLOAT32_TOLERANCE)


def _check_distance(name: str, reference: Tensor, found: Tensor, tolerance: float) -> None:
    difference, largest = max_difference(reference, found), float(reference.abs().max())
    # Written so that NaN does not pass.
    if not difference <= tolerance * largest:
        raise ArtifactMismatch(
            f"{name} answers differently from the model it was made of: by up to {difference:.3g}, where the largest "
            f"logit is {largest:.3g} and {tolerance:g} of it is allowed."
        )


def _check_agreement(delivery: Delivery, expected: Expected, found: Tensor) -> None:
    agreed = decided_agreement(expected.answers, found)
    agrees = agreed >= LEAST_AGREEMENT and bool(found.isfinite().all())
    if not agrees and not _rounds_as_well(delivery, expected, found):
        raise ArtifactMismatch(
            f"{delivery.main.name} puts only {agreed:.1%} of the images where the model puts them that it was made of; "
            f"{LEAST_AGREEMENT:.0%} are needed."
        )


def _check_accuracy(delivery: Delivery, expected: Expected, found: Tensor) -> None:
    assert expected.labels is not None
    drop = paired_drop(expected.answers, found, expected.labels)
    low, high = drop.ci95
    if low > 0 or not bool(found.isfinite().all()):
        raise ArtifactMismatch(
            f"{delivery.main.name}, whose integers {delivery.realized_by} has chosen, is right less often than the "
            f"model by {drop.value:.1%} of the images, and by chance it would not be ({low:.1%} to {high:.1%}). "
            "Without options.quantizer the file has the integers that the job has measured."
        )


def decided_agreement(reference: Tensor, found: Tensor) -> float:
    """Part of the images on which `found` gives the class of `reference`, or one that it holds for as good."""
    chosen = reference.gather(1, top1(found).unsqueeze(1)).squeeze(1)
    behind = reference.max(dim=1).values - chosen
    return float((behind <= NEAR_TIE * reference.abs().max()).double().mean())
