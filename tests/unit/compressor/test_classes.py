"""A job that ends with fewer classes: all that is measured in it is measured on these, and so is the original."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from compressor.choice import deliverable
from compressor.classes import Kept
from compressor.compress import compress
from compressor.context import Context
from compressor.data.images import Images
from compressor.measure.accuracy import accuracy, answers, calibration_error, loss, paired_drop
from compressor.measure.fidelity import fidelity
from compressor.models.files import load_model
from compressor.order import Order, Outcome
from compressor.training.classes import shared_classes
from contract.failures import ClassesMismatch, Failure
from contract.methods import Role
from contract.methods.distill import Distill
from contract.methods.lighten import Lighten
from contract.methods.prune import PruneWeights
from contract.methods.train import FineTune
from tests.unit.compressor.small_jobs import NotingDesk, images, order, spec, trained_candidate, write_weights

#: Blue and red, in this order.
KEPT = (2, 0)
KEEP = Lighten(keep_classes=KEPT, fold_batch_norm=False)


def of_two_classes(data: Images) -> Images:
    """The images of the kept classes, chosen and numbered by hand."""
    chosen = (data.labels == 0) | (data.labels == 2)
    return replace(data, pixels=data.pixels[chosen], labels=(data.labels[chosen] == 0).long())


def job_of(folder: Path, job: Order) -> tuple[Outcome, NotingDesk]:
    desk = NotingDesk(folder)
    return compress(job, desk), desk


def onnx_answers(path: Path, data: Images) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["modelpress.classes"]) == ["2", "0"]
    return torch.cat([torch.from_numpy(session.run(None, {"image": b.x.numpy()})[0]) for b in data.batches(50)])


def test_everything_is_measured_on_the_classes_that_stay(tmp_path: Path) -> None:
    # Given a job that works with all classes, lets two of four go, and learns what the original says of the others
    weights = write_weights(trained_candidate().module, tmp_path / "weights.safetensors")
    recipe = {"epochs": 1, "batch_size": 24, "learning_rate": 1e-4}
    steps = (
        PruneWeights(amount=0.3, recalibrate=False),
        KEEP,
        FineTune(distill_from_original=True, **recipe),
        Distill(teacher="step_0", **recipe),
    )
    job = order(tmp_path, weights, spec(*steps, outputs=["onnx", "safetensors"]))
    # When it is done
    outcome, desk = job_of(tmp_path, job)
    # Then the baseline is what the original says of these two classes, on their images alone
    data, report = of_two_classes(images(200, seed=1)), outcome.result.report
    original = answers(trained_candidate().module, data)[:, list(KEPT)]
    assert report.baseline.accuracy == accuracy(original, data.labels)
    assert report.baseline.accuracy.n == 100
    assert report.baseline.loss == pytest.approx(loss(original, data.labels), rel=1e-4)
    assert report.baseline.calibration_error == pytest.approx(calibration_error(original, data.labels), rel=1e-3)
    # And the network beside it is what the file answers to them
    found = onnx_answers(job.out / "model.onnx", data)
    assert found.shape == (100, 2)
    assert report.compressed.accuracy == accuracy(found, data.labels)
    assert report.compressed.accuracy.value > 0.9
    assert report.drop == paired_drop(original, found, data.labels)
    assert report.fidelity is not None
    assert report.fidelity.top1_agreement == fidelity(original, found).top1_agreement
    # And what a user loads answers the same
    (tmp_path / "user").mkdir()
    for name in ("model.safetensors", "model.json"):
        (job.out / name).rename(tmp_path / "user" / name)
    with torch.no_grad():
        loaded = load_model(tmp_path / "user")(data.normalized(data.pixels))
    assert torch.allclose(loaded, found, atol=1e-4 * float(found.abs().max()))
    assert json.loads((tmp_path / "user" / "model.json").read_text())["num_classes"] == 2
    # And each step is measured on them too, the one before the classes went as well
    drops = [step.drop for _, step in desk.succeeded]
    assert [drop.n for drop in drops if drop] == [100] * 4
    # The step that lets classes go costs those that stay nothing
    pruned, kept = (step.measurement for _, step in desk.succeeded[:2])
    assert kept.accuracy == pruned.accuracy
    assert kept.parameters < pruned.parameters


def test_what_still_tells_all_classes_apart_is_not_delivered() -> None:
    # Given steps of which the second lets classes go / When an earlier network than the last is wanted
    # Then only that of the second is of the kind that was ordered; without it all may be delivered
    steps = (PruneWeights(), KEEP, FineTune())
    assert list(deliverable(steps)) == [1]
    assert list(deliverable((PruneWeights(), KEEP))) == []
    assert list(deliverable((PruneWeights(), PruneWeights(), FineTune()))) == [0, 1]


@pytest.mark.parametrize(
    ("keep", "labels", "said"),
    [((0, "olive"), [0, 1, 2, 3], "no class olive"), ((0, 3), [0, 1, 2, 0], "fewer than two of the classes")],
)
def test_a_job_says_before_its_first_step_which_classes_are_missing(
    keep: tuple[int | str, ...], labels: list[int], said: str, tmp_path: Path
) -> None:
    # Given a step that keeps classes which the model does not have, or the data has no images of
    weights = write_weights(trained_candidate().module, tmp_path / "weights.safetensors")
    steps = (PruneWeights(), KEEP.model_copy(update={"keep_classes": keep}))
    job = order(tmp_path, weights, spec(*steps, roles=(Role.TRAIN,)))
    np.savez(tmp_path / "train.npz", x=np.zeros((4, 32, 32, 3), np.uint8), y=labels)
    desk = NotingDesk(tmp_path)
    # When the job begins / Then it fails with a pointer to them
    with pytest.raises(ClassesMismatch, match=said) as caught:
        compress(job, desk)
    assert desk.started == []
    assert caught.value.step_index == 1
    assert [fault.pointer for fault in caught.value.errors] == ["/steps/1/keep_classes"]


def test_images_are_numbered_as_the_network_numbers_its_classes() -> None:
    # Given images of four classes / When two are kept in another order
    data = replace(images(8, seed=0), class_names=("red", "green", "blue", "olive"))
    left = data.of_classes(KEPT)
    # Then each has its new number, and the names go with them
    assert left.labels.tolist() == [1, 0, 1, 0]
    assert torch.equal(left.pixels, data.pixels[::2])
    assert left.class_names == ("blue", "red")


def test_images_without_labels_stay() -> None:
    # Given images whose classes nobody has told / When some classes are kept / Then all images serve still
    unlabelled = replace(images(8, seed=0), labels=torch.full((8,), -1))
    assert Kept(0, KEPT).of(unlabelled) is unlabelled


def test_a_teacher_without_names_is_known_by_its_numbers() -> None:
    # Given a student that has kept two of the classes of a teacher without names
    teacher = trained_candidate()
    # When it is asked which of them are the student's / Then those of the same numbers are
    student = replace(trained_candidate(), num_classes=2, classes=("2", "0"))
    columns = shared_classes(student, teacher, Context(), kin=True)
    assert columns is not None
    assert columns.tolist() == [2, 0]
    # But not of a teacher from elsewhere: nobody has said that its third class is the one that is called 2
    with pytest.raises(ClassesMismatch, match="The teacher tells 4 classes apart, and the student 2"):
        shared_classes(student, teacher, Context(), kin=False)
    # And a student with other names is not mistaken for one
    named = replace(trained_candidate(), num_classes=2, classes=("blue", "red"))
    with pytest.raises(Failure):
        shared_classes(named, teacher, Context(), kin=True)
