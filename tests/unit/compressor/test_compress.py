import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from compressor.compress import compress
from compressor.context import Interrupted
from compressor.exports.openvino_nncf import version
from compressor.format import runtime_of
from compressor.measure.accuracy import accuracy, answers
from compressor.measure.counting import zeros
from compressor.models import files
from compressor.models.architectures import build
from compressor.order import DataInput, Inputs, Order, Outcome
from compressor.report.document import ReportDocument
from compressor.rescue import files_left
from compressor.steps import step_seed
from contract.artifact import ArtifactFormat
from contract.dataset import DatasetFormat
from contract.failures import ClassesMismatch, ConstraintUnmet, MissingData, NoLayerMatches, UnfitModel
from contract.methods import Params, Role
from contract.methods.distill import Distill
from contract.methods.merge import Merge
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from contract.methods.replace import ReplaceArchitecture
from contract.methods.train import FineTune
from contract.model import Architecture, Preprocessing
from contract.spec import Constraint, Metric
from tests.unit.compressor.data.pictures import read, stripes, zipped
from tests.unit.compressor.small_jobs import (
    ALL_ROLES,
    NETWORK,
    PREPROCESSING,
    NotingDesk,
    images,
    learnt,
    model_input,
    order,
    spec,
    write_weights,
)


def test_three_techniques_in_one_job(trained_weights: Path, tmp_path: Path) -> None:
    # Given a job that prunes, distils and quantizes a trained network, and shall deliver it in every format
    steps = (
        PruneChannels(ratio=0.25),
        Distill(epochs=3, learning_rate=3e-3, batch_size=24),
        QuantizeStatic(samples=64),
    )
    desk = NotingDesk(tmp_path)
    job = order(tmp_path, trained_weights, spec(*steps, outputs=["safetensors", "onnx", "openvino"]))
    # When it is done
    outcome = compress(job, desk)
    # Then the desk has heard of every step in order, and progress never fell
    assert desk.started == [0, 1, 2]
    assert [index for index, _ in desk.succeeded] == [0, 1, 2]
    fractions = [progress.fraction for progress in desk.told]
    assert fractions == sorted(fractions)
    assert {progress.step_count for progress in desk.told} == {3}
    # And the network is smaller in every way, and measured
    report = outcome.result.report
    assert report.ratio.size_bytes < 0.3
    assert report.ratio.parameters < 0.8
    assert report.ratio.macs < 0.8
    assert report.compressed.latency is not None
    assert report.baseline.latency is not None
    # And what is told of the file is what the file does
    _check_onnx(job.out, outcome)
    _check_openvino(job.out, outcome)
    _check_fastest(outcome)
    _check_folder(job.out, outcome)
    _check_reports(job.out, outcome, tmp_path)


def _check_onnx(out: Path, outcome: Outcome) -> None:
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    data = images(200, seed=1)
    logits = torch.cat([torch.from_numpy(session.run(None, {"image": b.x.numpy()})[0]) for b in data.batches(50)])
    assert outcome.result.report.compressed.accuracy == accuracy(logits, data.labels)
    told = next(file for file in outcome.files if file.filename == "model.onnx")
    assert told.verified is not None
    assert told.verified.int8_macs_fraction is not None
    assert told.verified.int8_macs_fraction > 0.95
    assert outcome.result.report.compressed.size_bytes == (out / "model.onnx").stat().st_size == told.size_bytes


def _check_openvino(out: Path, outcome: Outcome) -> None:
    run = runtime_of(out / "model.xml").open_file(out / "model.xml", 1)
    data = images(200, seed=1)
    logits = torch.cat([torch.from_numpy(run(batch.x.numpy())) for batch in data.batches(50)])
    graph, weights = (file for file in outcome.files if file.format is ArtifactFormat.OPENVINO)
    assert (graph.filename, weights.filename) == ("model.xml", "model.bin")
    assert graph.verified is not None
    assert graph.verified.accuracy == accuracy(logits, data.labels)
    assert graph.verified.int8_macs_fraction is not None
    assert graph.verified.int8_macs_fraction > 0.95
    assert weights.verified is None


def _check_fastest(outcome: Outcome) -> None:
    ratios = {file.filename: file.verified.ratio_to_onnx_float32 or 9e9 for file in outcome.files if file.verified}
    assert set(ratios) == {"model.safetensors", "model.onnx", "model.xml"}
    assert [file.filename for file in outcome.files if file.fastest] == [min(ratios, key=ratios.__getitem__)]


def _check_folder(out: Path, outcome: Outcome) -> None:
    data = images(200, seed=1)
    loaded = accuracy(answers(files.load_model(out), data), data.labels)
    told = next(file for file in outcome.files if file.format is ArtifactFormat.SAFETENSORS)
    assert told.verified is not None
    assert told.verified.accuracy == loaded


def _check_reports(out: Path, outcome: Outcome, machine: Path) -> None:
    assert {file.filename for file in outcome.files} == {path.name for path in out.iterdir()}
    document = ReportDocument.model_validate_json((out / "report.json").read_bytes())
    assert document.result == outcome.result
    assert [step.measurement.parameters for step in document.steps][-1] == outcome.result.report.compressed.parameters
    for path in out.iterdir():
        assert str(machine).encode() not in path.read_bytes(), f"{path.name} tells of this machine"


def test_without_data_a_job_says_what_it_does_not_know(trained_weights: Path, tmp_path: Path) -> None:
    # Given pruned weights, no data at all, and a bound on accuracy
    bound = Constraint(metric=Metric.ACCURACY, kind="max_drop", value=0.05)
    job = spec(PruneWeights(amount=0.6), roles=(), outputs=["onnx"], constraints=(bound,))
    # When the job is done
    outcome = compress(order(tmp_path, trained_weights, job), NotingDesk(tmp_path))
    # Then nothing is claimed of accuracy, and zeros that no runtime skips are called so
    assert outcome.result.report.compressed.accuracy is None
    assert outcome.result.report.fidelity is None
    assert {"accuracy_not_measured", "masked_only"} <= {notice.code for notice in outcome.result.warnings}
    # And what is not known meets no bound, but the last state is delivered all the same
    assert outcome.result.outcome == "unmet"
    assert [(verdict.met, verdict.actual) for verdict in outcome.result.constraints] == [(False, None)]


def test_an_interrupted_job_ends_as_an_uninterrupted_one(trained_weights: Path, tmp_path: Path) -> None:
    # Given a job that was stopped behind its first step, and whose second attempt was stopped within the training
    steps = (PruneWeights(amount=0.3), FineTune(epochs=3, batch_size=48), PruneChannels(ratio=0.25))
    job = spec(*steps, outputs=["onnx"], seed=3)
    resume: Path | None = None
    for attempt, stop_after in enumerate((1, 2)):
        desk = NotingDesk(tmp_path / str(attempt), stop_after=stop_after)
        ordered = order(desk.folder, trained_weights, job, checkpoint_seconds=0)
        with pytest.raises(Interrupted):
            compress(replace(ordered, resume=resume), desk)
        resume = desk.kept
    assert desk.positions[-1] == {"step_index": 1, "epochs_done": 2}
    # When a third attempt goes on from there
    last = NotingDesk(tmp_path / "last")
    ordered = order(last.folder, trained_weights, job, checkpoint_seconds=0)
    outcome = compress(replace(ordered, resume=resume), last)
    # Then it does only what was left
    assert last.started == [1, 2]
    # And ends with the same file and the same figures as a job that nobody stopped, to the last bit
    whole = compress(order(tmp_path / "whole", trained_weights, job), NotingDesk(tmp_path / "whole"))
    assert _counted(outcome) == _counted(whole)
    assert len(ReportDocument.model_validate_json((ordered.out / "report.json").read_bytes()).steps) == 3


def _counted(outcome: Outcome) -> tuple[object, ...]:
    """All that is not a time or a size of memory."""
    timed = {"latency", "load_seconds", "peak_memory_bytes"}
    report = outcome.result.report
    ends = tuple(end.model_dump(exclude=timed) for end in (report.baseline, report.compressed))
    digests = {file.filename: file.sha256 for file in outcome.files if file.format is not ArtifactFormat.REPORT}
    return (*ends, report.drop, report.fidelity, digests)


def test_a_bad_step_is_named_before_the_first_one_runs(trained_weights: Path, tmp_path: Path) -> None:
    # Given a job whose last step has a pattern that no layer matches
    job = spec(FineTune(epochs=1), PruneWeights(include=("no.such.layer",)))
    desk = NotingDesk(tmp_path)
    # When it runs
    with pytest.raises(NoLayerMatches) as caught:
        compress(order(tmp_path, trained_weights, job), desk)
    # Then it fails at once, and says which step of the spec is to blame
    assert caught.value.step_index == 1
    assert all(fault.pointer.startswith("/steps/1") for fault in caught.value.errors)
    assert caught.value.errors
    assert desk.started == []


def test_a_step_behind_a_new_architecture_is_checked_against_that(trained_weights: Path, tmp_path: Path) -> None:
    # Given a job that puts SqueezeNet in the model's place and then names a layer that only the original has
    other = Architecture(name="squeezenet1_1", options={"num_classes": 4})
    job = spec(ReplaceArchitecture(architecture=other), PruneWeights(include=("layer1.*",)))
    # When it runs, then the step that names it is to blame
    with pytest.raises(NoLayerMatches) as caught:
        compress(order(tmp_path, trained_weights, job), NotingDesk(tmp_path))
    assert caught.value.step_index == 1


def with_another(job: Order, model_id: str, folder: Path, architecture: Architecture) -> Order:
    """The job with a second model, of this architecture."""
    weights = write_weights(build(architecture, seed=1), folder / "another.safetensors")
    others = {model_id: model_input(weights, architecture)}
    return replace(job, inputs=replace(job.inputs, others=others))


def test_a_soup_of_networks_that_do_not_fit_is_refused_before_the_first_step(
    trained_weights: Path, tmp_path: Path
) -> None:
    # Given a job that trains, and then averages with a network of five classes
    another = "mdl_01JD000000000000000000000A"
    five = Architecture(library="timm", name="test_resnet", options={"num_classes": 5})
    job = spec(FineTune(epochs=1), Merge(ingredients=(another,)))
    desk = NotingDesk(tmp_path)
    # When it runs
    with pytest.raises(UnfitModel, match=rf"{another} cannot be averaged .* fc.weight is \[5, 96\] there") as caught:
        compress(with_another(order(tmp_path, trained_weights, job), another, tmp_path, five), desk)
    # Then it fails at once, and names the model and the first tensor that differs
    assert [fault.pointer for fault in caught.value.errors] == ["/steps/1/ingredients/0"]
    assert desk.started == []


def test_a_soup_behind_a_step_that_reshapes_is_judged_when_its_turn_comes(
    trained_weights: Path, tmp_path: Path
) -> None:
    # Given a job that removes channels, and then averages with the network as it was
    another = "mdl_01JD000000000000000000000A"
    job = spec(PruneChannels(ratio=0.25), Merge(ingredients=(another,)))
    desk = NotingDesk(tmp_path)
    # When it runs / Then only the step itself can say that they do not fit
    with pytest.raises(UnfitModel, match=f"{another} cannot be averaged"):
        compress(with_another(order(tmp_path, trained_weights, job), another, tmp_path, NETWORK), desk)
    assert desk.started == [0, 1]


def test_data_with_more_classes_than_the_model_is_refused(tmp_path: Path) -> None:
    # Given a model of three classes, and data of four
    three = Architecture(library="timm", name="test_resnet", options={"num_classes": 3})
    weights = write_weights(build(three), tmp_path / "three.safetensors")
    job = order(tmp_path, weights, spec(outputs=["onnx"], roles=(Role.EVALUATION,)))
    source = replace(job.inputs.model.source, architecture=three)
    inputs = replace(job.inputs, model=replace(job.inputs.model, source=source))
    # When it runs, then the failure says so
    with pytest.raises(ClassesMismatch, match="evaluation"):
        compress(replace(job, inputs=inputs), NotingDesk(tmp_path))


#: Leaves next to nothing of the network.
HARSH = PruneChannels(ratio=0.9, round_to=1)
KEEPS_ACCURACY = Constraint(metric=Metric.ACCURACY, kind="max_drop", value=0.05)


def test_the_latest_state_that_meets_the_constraints_is_kept(trained_weights: Path, tmp_path: Path) -> None:
    # Given a gentle step and one that ruins the network, and a bound on what may be lost
    job = spec(PruneWeights(amount=0.05), HARSH, constraints=(KEEPS_ACCURACY,), outputs=["onnx"])
    # When the job is done
    outcome = compress(order(tmp_path, trained_weights, job), NotingDesk(tmp_path))
    # Then the state before the ruin is delivered, and the verdict is that of its file
    assert outcome.result.outcome == "met"
    assert [verdict.met for verdict in outcome.result.constraints] == [True]
    assert outcome.result.report.ratio.parameters == 1
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(document["steps"]) == 1


def test_a_job_that_must_meet_its_constraints_fails_and_leaves_its_files(trained_weights: Path, tmp_path: Path) -> None:
    # Given a job without steps, so that the file computes what the original does, and a bound that it must meet
    bound = Constraint(metric=Metric.SIZE_BYTES, kind="max_ratio", value=0.5)
    job = order(tmp_path, trained_weights, spec(constraints=(bound,), on_unmet="fail", outputs=["onnx"]))
    # When it runs, then it fails with what was found
    with pytest.raises(ConstraintUnmet, match=r"size_bytes .* is 1\."):
        compress(job, NotingDesk(tmp_path))
    # And its files can be had, each of them marked
    left = files_left(job.out)
    assert {file.filename for file in left} == {"model.onnx", "report.json", "report.html"}
    assert all(file.partial for file in left)


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    assert files_left(tmp_path / "nowhere") == ()


def test_both_precisions_have_files_of_their_own(trained_weights: Path, tmp_path: Path) -> None:
    # Given a quantized network that shall also be had as float32
    outputs = ["onnx", {"format": "onnx", "precision": "float32"}]
    job = order(tmp_path, trained_weights, spec(QuantizeDynamic(), outputs=outputs))
    # When the job is done
    outcome = compress(job, NotingDesk(tmp_path))
    # Then each has its name, and is proven as what it is
    proven = {file.filename: file.verified for file in outcome.files if file.verified}
    assert set(proven) == {"model.onnx", "model.float32.onnx"}
    assert proven["model.onnx"] is not None
    assert proven["model.onnx"].int8_macs_fraction
    assert proven["model.float32.onnx"] is not None
    assert proven["model.float32.onnx"].int8_macs_fraction is None
    # And the job's figures are those of the first
    assert outcome.result.report.compressed.latency == proven["model.onnx"].latency


def test_another_quantizer_starts_from_the_network_before_the_plan(trained_weights: Path, tmp_path: Path) -> None:
    # Given a job that prunes, quantizes all but the first layer, and wants the integers of NNCF
    by_nncf = {"format": "openvino", "options": {"quantizer": "nncf"}}
    steps = (PruneChannels(ratio=0.25), QuantizeStatic(samples=48, exclude=("conv1*",)))
    job = spec(*steps, roles=(*ALL_ROLES, Role.CALIBRATION), outputs=[by_nncf])
    # And whose first attempt was stopped when all was done but the file
    desk = NotingDesk(tmp_path / "0", stop_after=2)
    with pytest.raises(Interrupted):
        compress(order(desk.folder, trained_weights, job), desk)
    # When a second attempt goes on from there
    ordered = replace(order(tmp_path / "1", trained_weights, job), resume=desk.kept)
    outcome = compress(ordered, NotingDesk(tmp_path / "1"))
    # Then the job has the figures of a file whose integers NNCF has chosen, but for the layer that was left
    (proof,) = [file.verified for file in outcome.files if file.verified]
    assert proof.realized_by == version()
    assert proof.int8_macs_fraction is not None
    assert 0.3 < proof.int8_macs_fraction < 0.7
    report = outcome.result.report
    assert report.compressed.latency == proof.latency
    # And the network in it is the pruned one, at little more than a byte for each number
    assert report.ratio.parameters < 0.9
    sizes = {file.filename: file.size_bytes for file in outcome.files}
    assert 1 < sizes["model.nncf.bin"] / report.compressed.parameters < 1.5


def test_float16_files_are_proven(trained_weights: Path, tmp_path: Path) -> None:
    # Given a pruned network that shall be had in float16
    outputs = [{"format": form, "precision": "float16"} for form in ("onnx", "safetensors")]
    job = order(tmp_path, trained_weights, spec(PruneWeights(amount=0.3), outputs=outputs))
    # When the job is done
    outcome = compress(job, NotingDesk(tmp_path))
    # Then every file is proven, and the job's figures are those of the first, at half the bytes
    proven = {file.filename: file.verified for file in outcome.files if file.verified}
    assert set(proven) == {"model.float16.onnx", "model.float16.safetensors"}
    report = outcome.result.report
    assert report.compressed.latency == proven["model.float16.onnx"].latency  # type: ignore[union-attr]
    assert report.ratio.size_bytes < 0.6


def test_seeds_differ_between_steps_and_jobs() -> None:
    seeds = {step_seed(seed, index) for seed in (0, 1, 2**63 - 1) for index in range(3)}
    assert len(seeds) == 9
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_failure_within_a_step_names_the_step(trained_weights: Path, tmp_path: Path) -> None:
    # Given channels that cannot be removed in groups so large, behind another step
    steps = (PruneWeights(amount=0.1), PruneChannels(round_to=256))
    # When it runs
    with pytest.raises(UnfitModel) as caught:
        compress(order(tmp_path, trained_weights, spec(*steps)), NotingDesk(tmp_path))
    # Then the failure bears the step and no trace of the machine
    assert caught.value.step_index == 1
    assert not re.search(r"/(tmp|home|work|usr)/", caught.value.detail)


def test_a_model_that_answers_with_infinity_is_refused_as_uploaded(tmp_path: Path) -> None:
    # Given finite weights so large that no answer is
    module = build(NETWORK, seed=0)
    module.get_parameter("fc.weight").data.fill_(3e38)
    job = order(tmp_path, write_weights(module, tmp_path / "large.safetensors"), spec(QuantizeDynamic()))
    # When a job is done with it, then the failure blames the upload and no step
    with pytest.raises(UnfitModel, match=r"As it was uploaded, .* with NaN or infinity") as caught:
        compress(job, NotingDesk(tmp_path))
    assert caught.value.step_index is None


def test_what_steps_have_made_can_be_had_although_a_later_one_fails(trained_weights: Path, tmp_path: Path) -> None:
    # Given two steps, and a third that cannot be done
    steps = (PruneWeights(amount=0.1), PruneWeights(amount=0.3), PruneChannels(round_to=256))
    job = order(tmp_path, trained_weights, spec(*steps))
    desk = NotingDesk(tmp_path)
    # When it runs
    with pytest.raises(UnfitModel):
        compress(job, desk)
    # Then what the second has made is left, marked, and can be loaded
    left = files_left(job.out)
    assert {file.filename for file in left} == {"model.safetensors", "model.json"}
    assert all(file.partial for file in left)
    # And it was told of before, for a process that ends without a word
    assert set(desk.left) == set(left)
    assert zeros(files.read(job.out).module) == pytest.approx(0.3, abs=0.001)


def test_nothing_is_left_of_a_job_whose_first_step_fails(trained_weights: Path, tmp_path: Path) -> None:
    job = order(tmp_path, trained_weights, spec(PruneChannels(round_to=256), PruneWeights()))
    with pytest.raises(UnfitModel):
        compress(job, NotingDesk(tmp_path))
    assert files_left(job.out) == ()


def test_the_model_of_an_earlier_step_can_teach(trained_weights: Path, tmp_path: Path) -> None:
    # Given a network that has lost nearly all its weights, which learns from itself, and then from the original
    still = {"epochs": 1, "learning_rate": 1e-9, "objective": "mse", "alpha": 1.0}
    learning = [Distill.model_validate({"teacher": name, **still}) for name in ("step_0", "original")]
    desk = NotingDesk(tmp_path)
    # When the job is done
    job = spec(PruneWeights(amount=0.95), *learning, outputs=["safetensors"])
    compress(order(tmp_path, trained_weights, job), desk)
    # Then it is much nearer to what it was than to the original
    itself, original = (torch.tensor(report.details["train_loss"]).item() for _, report in desk.succeeded[1:])
    assert itself < 0.5 * original


def unlabelled(job: Order) -> Order:
    """The same order, over images of which nobody has told the classes."""
    for data in job.inputs.datasets.values():
        np.savez(data.path, x=np.load(data.path)["x"])
    return job


def test_a_student_learns_from_a_teacher_alone(trained_weights: Path, tmp_path: Path) -> None:
    # Given images without labels / When a pruned network learns on them what the original says
    steps = (PruneWeights(amount=0.9), Distill(epochs=3, learning_rate=3e-3, batch_size=24, alpha=1.0))
    job = unlabelled(order(tmp_path, trained_weights, spec(*steps, outputs=["safetensors"])))
    desk = NotingDesk(tmp_path)
    outcome = compress(job, desk)
    # Then it comes nearer to the original, and the job says that nobody knows how often it is right
    pruned, taught = (report.fidelity for _, report in desk.succeeded)
    assert pruned is not None
    assert taught is not None
    assert taught.top1_agreement > pruned.top1_agreement
    assert outcome.result.report.compressed.accuracy is None
    assert "accuracy_not_measured" in {warning.code for warning in outcome.result.warnings}


def knows_stripes(path: Path, preprocessing: Preprocessing, architecture: Architecture) -> nn.Module:
    """A network that has learnt the images of the file in a few seconds."""
    return learnt(architecture, read(path, preprocessing), epochs=6, batch_size=16)


def test_an_uploaded_teacher_of_larger_images_sees_the_files_in_its_own_size(tmp_path: Path) -> None:
    # Given stripes of one pixel in files of 32, which a teacher of that size tells, and a model that sees 16
    small, two = (
        PREPROCESSING.model_copy(update={"size": (16, 16)}),
        NETWORK.model_copy(update={"options": {"num_classes": 2}}),
    )
    paths = {role: zipped(tmp_path / f"{role}.zip", stripes(32, 96, seed=n)) for n, role in enumerate(ALL_ROLES)}
    tutor = knows_stripes(paths[Role.TRAIN], PREPROCESSING, two)
    # When a job teaches the one by the other
    name, desk = "mdl_" + "0" * 26, NotingDesk(tmp_path)
    job = order(tmp_path, tmp_path, spec(Distill(teacher=name, epochs=1), outputs=["safetensors"]))
    model = model_input(write_weights(build(two, seed=3), tmp_path / "model.safetensors"), two)
    inputs = Inputs(
        model=replace(model, source=replace(model.source, preprocessing=small)),
        datasets={role: DataInput(path, DatasetFormat.IMAGE_FOLDER_ZIP) for role, path in paths.items()},
        others={name: model_input(write_weights(tutor, tmp_path / "tutor.safetensors"), two)},
    )
    compress(replace(job, inputs=inputs), desk)
    # Then the teacher is as often right as on images of its size, and nobody says that it sees less
    [(_, report)] = desk.succeeded
    own = read(paths[Role.EVALUATION], PREPROCESSING)
    assert report.details["accuracy_of_teacher"] == accuracy(answers(tutor, own), own.labels).value
    assert report.details["accuracy_of_teacher"] > 0.9
    assert "teacher_sees_enlarged" not in {warning.code for warning in report.warnings}


@pytest.mark.parametrize(
    ("step", "role"),
    [
        (FineTune(epochs=1), "train"),
        (Distill(alpha=0.5), "train"),
        (FineTune(epochs=1, distill_from_original=True), "train"),
        (PruneWeights(amount=0.5, importance="gradient"), "calibration"),
        (PruneChannels(ratio=0.5, importance="taylor"), "calibration"),
        (QuantizeStatic(max_drop=0.01), "calibration"),
    ],
    ids=lambda value: getattr(value, "method", value),
)
def test_what_reads_labels_is_refused_where_there_are_none(
    step: Params, role: str, trained_weights: Path, tmp_path: Path
) -> None:
    # Given images without labels / When a step would read some / Then the job ends before its first step, and says so
    job = unlabelled(order(tmp_path, trained_weights, spec(step)))
    with pytest.raises(MissingData, match=rf"data\.{role} have none") as refused:
        compress(job, NotingDesk(tmp_path))
    # And where a teacher could stand in for them, it says how
    assert ("alpha 1" in str(refused.value)) == (role == "train")


def test_where_nobody_has_told_the_classes_only_the_plan_can_be_proven(trained_weights: Path, tmp_path: Path) -> None:
    # Given images without labels / When NNCF shall quantize / Then the job ends before its first step, and says why
    by_nncf = {"format": "openvino", "options": {"quantizer": "nncf"}}
    job = unlabelled(order(tmp_path, trained_weights, spec(QuantizeStatic(), outputs=["onnx", by_nncf])))
    desk = NotingDesk(tmp_path)
    with pytest.raises(MissingData, match=r"data\.evaluation have no labels") as refused:
        compress(job, desk)
    assert [fault.pointer for fault in refused.value.errors] == ["/outputs/1/options/quantizer"]
    assert desk.started == []
