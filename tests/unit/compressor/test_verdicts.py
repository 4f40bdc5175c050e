from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.delivery import Delivery
from compressor.notices import notices
from compressor.report.document import ReportDocument
from compressor.report.figures import ratios
from compressor.verdicts import may_hold, verdicts
from compressor.verify import Figures, Proof
from contract.methods.prune import PruneWeights
from contract.methods.train import FineTune
from contract.model import Architecture
from contract.report import Measurement, Report, Verification
from contract.spec import Constraint, JobSpec, Output, UntrainedModel
from tests.unit.compressor.networks import candidate_of
from tests.unit.compressor.sample_report import latency

MODEL = UntrainedModel(architecture=Architecture(name="resnet18"), weights="none")
TRAINED = JobSpec(model=MODEL, steps=(FineTune(),))


def bound(metric: str, kind: str, value: float, unit: str = "absolute") -> Constraint:
    return Constraint.model_validate({"metric": metric, "kind": kind, "value": value, "unit": unit})


@pytest.mark.parametrize(
    ("constraint", "actual", "met"),
    # Of 540 images the original has 534 right and the compressed model 532.
    [
        (bound("accuracy", "max_drop", 0.004), 2 / 540, True),
        (bound("accuracy", "max_drop", 0.003), 2 / 540, False),
        (bound("accuracy", "max_drop", 0.0038, "relative"), 2 / 534, True),
        (bound("accuracy", "max_drop", 0.0037, "relative"), 2 / 534, False),
        (bound("accuracy", "min", 0.985), 532 / 540, True),
        (bound("accuracy", "min", 0.986), 532 / 540, False),
        (bound("size_bytes", "max", 735_310), 735_310, True),
        (bound("size_bytes", "max", 735_309), 735_310, False),
        (bound("size_bytes", "max_ratio", 0.02), 735_310 / 44_700_412, True),
        (bound("latency", "max", 0.2), 0.212, False),
        (bound("latency", "max_ratio", 0.1), 0.212 / 2.41, True),
        (bound("parameters", "max", 700_000), 701_466, False),
        (bound("macs", "max_ratio", 0.07), 9_571_328 / 148_550_656, True),
    ],
)
def test_a_verdict_tells_what_was_found(
    document: ReportDocument, constraint: Constraint, actual: float, met: bool
) -> None:
    # Given a report, and a bound at one side of its figure
    (verdict,) = verdicts([constraint], document.result.report)
    # Then the verdict follows
    assert verdict.actual == pytest.approx(actual)
    assert verdict.met is met


def without(measurement: Measurement, *names: str) -> Measurement:
    return measurement.model_copy(update=dict.fromkeys(names))


@pytest.mark.parametrize(
    "constraint", [bound("accuracy", "max_drop", 1), bound("accuracy", "min", 0), bound("latency", "max", 9)]
)
def test_what_was_not_measured_is_not_met(document: ReportDocument, constraint: Constraint) -> None:
    # Given a report without accuracy and latency
    report = document.result.report
    blank = report.model_copy(update={"compressed": without(report.compressed, "accuracy", "latency"), "drop": None})
    # Then even the most generous bound is not met
    (verdict,) = verdicts([constraint], blank)
    assert (verdict.actual, verdict.met) == (None, False)


def test_a_state_without_a_file_is_ruled_out_by_what_is_known_of_it_alone(document: ReportDocument) -> None:
    # Given the state behind pruning, which has lost most of its accuracy
    step, baseline = document.steps[0], document.result.report.baseline
    # Then bounds on accuracy and parameters speak, those on latency and bytes cannot yet
    assert not may_hold([bound("accuracy", "max_drop", 0.01)], baseline, step.measurement, step.drop)
    assert not may_hold([bound("parameters", "max", 10)], baseline, step.measurement, step.drop)
    assert may_hold([bound("latency", "max", 0), bound("size_bytes", "max", 0)], baseline, step.measurement, step.drop)


def changed(report: Report, **compressed: object) -> Report:
    after = report.compressed.model_copy(update=compressed)
    return report.model_copy(update={"compressed": after, "ratio": ratios(report.baseline, after)})


def codes(report: Report, *, masked: int = 0, spec: JobSpec | None = None, proofs: tuple[Proof, ...] = ()) -> set[str]:
    return {notice.code for notice in notices(spec or TRAINED, report, masked, proofs)}


def test_a_good_job_has_no_warnings(document: ReportDocument) -> None:
    assert codes(document.result.report) == set()


def test_gains_that_are_not_there_are_told(document: ReportDocument) -> None:
    # Given a report, and what a file may be that nobody wants
    report = document.result.report
    # Then each has its warning
    assert codes(changed(report, size_bytes=45_000_000)) == {"larger_on_disk"}
    assert codes(report, masked=1) == {"masked_only"}
    assert codes(changed(report, accuracy=None)) == {"accuracy_not_measured"}


def proof(name: str, *, takes: float, integers: float | None = None, precision: str = "as_planned") -> Proof:
    """A file that takes so many times as long as the float32 file beside it."""
    output = Output(format=name.split(".")[-1], precision=precision)
    verified = Verification(
        runtime="",
        top1_agreement=1,
        max_abs_difference=0,
        latency=latency(takes),
        baseline_latency=latency(1.0),
        int8_macs_fraction=integers,
    )
    figures = Figures(size_bytes=1, load_seconds=1, peak_memory_bytes=1)
    files = {name: Path(name)}
    return Proof(Delivery(output, candidate_of(nn.Identity()), files), verified, figures, figures, torch.zeros(1, 1))


def test_each_file_that_should_be_faster_and_is_slower_is_named(document: ReportDocument) -> None:
    # Given files of a job, most of them slower than floats: integers, halves, and what no runtime is timed with
    proofs = (
        proof("model.safetensors", takes=9),
        proof("model.openvino", takes=0.4, integers=0.9),
        proof("model.onnx", takes=1.06, integers=0.9),
        proof("model.torch_export", takes=1.04, integers=0.9),
        proof("model.float16.onnx", takes=3, precision="float16"),
    )
    # When the job is looked at
    found = notices(TRAINED, document.result.report, 0, proofs)
    # Then integers that are clearly slower have a warning, and no other file
    assert [notice.code for notice in found] == ["slower_than_baseline"]
    assert found[0].detail.startswith("One batch takes 1.06 times as long with model.onnx as")
    # And the file whose figures are the job's has one whatever its numbers are
    assert codes(document.result.report, proofs=proofs[-1:]) == {"slower_than_baseline"}


def test_an_untrained_model_is_called_so_unless_a_step_trains_it(document: ReportDocument) -> None:
    # Given an architecture without weights, in a job that only prunes
    # Then the warning is there
    spec = JobSpec(model=MODEL, steps=(PruneWeights(),))
    assert codes(document.result.report, spec=spec) == {"untrained_model"}
