"""A student learns what its teacher answers, whoever the two are."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.methods import distill, prune_channels, prune_weights
from compressor.models.architectures import build
from compressor.training.splitting import split_of
from contract.failures import ClassesMismatch, UnfitModel
from contract.methods.distill import Distill
from contract.methods.prune import PruneChannels, PruneWeights
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained

DATA = images(96, seed=0)
SMALL = Architecture(name="squeezenet1_1")
TWO = NETWORK.model_copy(update={"options": {"num_classes": 2}})
UPLOADED = "mdl_" + "0" * 26


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    """A network that knows the images."""
    return trained()


def candidate(module: nn.Module) -> Candidate:
    return Candidate(module=module, architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4)


def taught(student: Candidate, params: Distill, teacher: nn.Module, name: str = "original") -> Candidate:
    return distill.apply(student, params, Context(train=DATA, seed=1, others={name: lambda: candidate(teacher)}))


def distance(student: nn.Module, teacher: nn.Module, data: Images = DATA) -> float:
    """Mean squared difference of the logits."""
    with torch.no_grad():
        batches = [(student.eval()(batch.x), teacher(batch.x)) for batch in data.batches(48)]
    return float(torch.cat([(a - b).square() for a, b in batches]).mean())


@pytest.mark.parametrize("objective", ["kl", "mse"])
def test_a_pruned_network_comes_back_to_its_original(teacher: nn.Module, objective: Literal["kl", "mse"]) -> None:
    # Given a network that has lost half of its channels
    student = prune_channels.apply(candidate(copy.deepcopy(teacher)), PruneChannels(ratio=0.5), Context())
    before = distance(student.module, teacher)
    # When the original teaches it
    params = Distill(objective=objective, epochs=4, batch_size=16, learning_rate=3e-3)
    after = distance(taught(student, params, teacher).module, teacher)
    # Then it answers much more as the original does
    assert after < 0.5 * before


def test_the_teacher_is_left_as_it_was(teacher: nn.Module) -> None:
    # Given a teacher / When a copy of it learns
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    taught(candidate(build(NETWORK, seed=3)), Distill(epochs=1, batch_size=32), teacher)
    # Then nothing of the teacher has changed, statistics included
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert not any(part.training for part in teacher.modules())


def test_what_is_pruned_stays_zero(teacher: nn.Module) -> None:
    # Given a network of which most weights are zero
    student = prune_weights.apply(candidate(copy.deepcopy(teacher)), PruneWeights(amount=0.8), Context())
    # When it learns
    after = taught(student, Distill(epochs=1, batch_size=32), teacher)
    # Then they still are
    assert after.masks.keys() == student.masks.keys()
    for name, mask in after.masks.items():
        assert not after.module.get_parameter(name)[~mask].any()


def test_a_fresh_architecture_learns_the_same_classes(teacher: nn.Module) -> None:
    # Given a network / When another architecture is to learn from it
    student = taught(candidate(teacher), Distill(student=SMALL, epochs=1, batch_size=32), teacher)
    # Then that is what comes out, with the model's classes and its input, from the step's seed
    assert type(student.module).__name__ == "SqueezeNet"
    assert student.architecture.options["num_classes"] == 4
    assert (student.num_classes, student.input_shape) == (4, (3, 32, 32))
    again = taught(candidate(teacher), Distill(student=SMALL, epochs=1, batch_size=32), teacher)
    pairs = zip(student.module.parameters(), again.module.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


class Noting(nn.Module):
    """A teacher that notes what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return x.mean((2, 3)).repeat(1, 2)[:, :4]


def seen(params: Distill) -> int:
    """How many images the teacher was shown beyond the one by which its classes are counted."""
    teacher = Noting()
    taught(candidate(build(NETWORK, seed=0)), params, teacher)
    return sum(len(x) for x in teacher.seen[1:])


def test_a_teacher_is_asked_once_unless_the_images_change() -> None:
    # Given images that stay as they are, and images that change with every epoch
    # Then the teacher sees each once, or sees in every epoch what the student sees
    assert seen(Distill(epochs=3, batch_size=32)) == len(DATA)
    assert seen(Distill(epochs=3, batch_size=32, augment="crop")) == 3 * len(DATA)


class Reading(nn.Module):
    """A teacher that reads its logits from four pixels: it adds nothing up, so that no batch changes a bit of them."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, 0, :4].clone()


def test_kept_answers_teach_what_live_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a student that has learnt two epochs from answers that were kept
    def learnt() -> dict[str, Tensor]:
        student = candidate(build(NETWORK, seed=3))
        return taught(student, Distill(epochs=2, batch_size=32, learning_rate=3e-3), Reading()).module.state_dict()

    kept = learnt()
    # When it learns from answers for which there is no room, so that the teacher is asked for every batch
    monkeypatch.setattr("compressor.training.answers.LARGEST", 0)
    live = learnt()
    # Then it has the same weights, to the last bit
    assert all(torch.equal(kept[name], live[name]) for name in kept)


def test_epochs_without_labels_are_judged_by_what_the_teacher_says(teacher: nn.Module) -> None:
    # Given images of which nobody has told the classes, and a quarter of them held out
    unlabelled = replace(DATA, labels=torch.full_like(DATA.labels, -1))
    params = Distill(
        objective="mse", alpha=1.0, epochs=4, batch_size=24, learning_rate=0.03, schedule="constant",
        held_out=0.25, keep="best",
    )  # fmt: skip
    assert params.labelled == frozenset()
    # When a student learns on the others
    notes: dict[str, Json] = {}
    context = Context(
        train=unlabelled, seed=1, others={"original": lambda: candidate(teacher)}, record=notes.__setitem__
    )
    made = distill.apply(candidate(build(NETWORK, seed=3)), params, context)
    # Then the epoch is kept in which it was nearest to the teacher on those
    held_out = split_of(params, context).held_out
    losses = notes["held_out_loss"]
    assert held_out is not None
    assert isinstance(losses, list)
    assert len(losses) == 4
    assert notes["epoch_kept"] == 1 + losses.index(min(losses))
    assert distance(made.module, teacher, held_out) == pytest.approx(min(losses), rel=1e-5)


def test_an_uploaded_teacher_is_found_by_its_name(teacher: nn.Module) -> None:
    # Given a teacher that goes by an id / When a step names it / Then it teaches
    name = "mdl_" + "0" * 26
    student = candidate(build(NETWORK, seed=3).eval())
    before = distance(student.module, teacher)
    params = Distill(teacher=name, epochs=2, batch_size=16, learning_rate=3e-3)
    assert distance(taught(student, params, teacher, name).module, teacher) < before


@pytest.mark.parametrize(
    ("params", "network", "failure"),
    [
        (Distill(teacher="mdl_" + "0" * 26), lambda: build(NETWORK, seed=0), UnfitModel),
        (Distill(), lambda: build(SMALL.model_copy(update={"options": {"num_classes": 7}}), seed=0), ClassesMismatch),
    ],
    ids=["nobody", "other classes"],
)
def test_a_teacher_that_cannot_teach_is_refused_by_name(
    params: Distill, network: Callable[[], nn.Module], failure: type[Exception]
) -> None:
    # Given a teacher that is not there, or that tells other classes apart / When / Then
    with pytest.raises(failure):
        taught(candidate(build(NETWORK, seed=0)), params, network().eval())


def test_a_student_of_other_classes_is_refused_before_the_work(teacher: nn.Module) -> None:
    # Given an architecture with options that do not fit the model / When it is looked at / Then
    student = SMALL.model_copy(update={"options": {"num_classes": 9}})
    with pytest.raises(ClassesMismatch, match="9 classes"):
        distill.preflight(candidate(teacher), Distill(student=student))


@pytest.mark.parametrize(("side", "said"), [(48, {"teacher_sees_enlarged"}), (32, set()), (16, set())])
def test_a_teacher_that_sees_less_than_it_is_used_to_is_said_to(teacher: nn.Module, side: int, said: set[str]) -> None:
    # Given images of 32 pixels, and a teacher of others / When it teaches / Then it is told where they are enlarged
    codes: set[str] = set()
    used_to = PREPROCESSING.model_copy(update={"size": (side, side)})
    tutor = replace(candidate(teacher), preprocessing=used_to)
    context = Context(train=DATA, others={"original": lambda: tutor}, notice=lambda code, _: codes.add(code))
    distill.apply(candidate(copy.deepcopy(teacher)), Distill(epochs=1, batch_size=48), context)
    assert codes == said


def test_a_number_is_no_name_of_a_class_that_a_teacher_from_elsewhere_knows(teacher: nn.Module) -> None:
    # Given images in folders named 0 and 1, and an uploaded teacher of four classes without names
    student = replace(candidate(build(TWO, seed=0).eval()), architecture=TWO, num_classes=2, classes=("0", "1"))
    data = replace(DATA, labels=DATA.labels % 2)
    uploaded = Distill(teacher=UPLOADED, epochs=1, batch_size=48)
    context = Context(train=data, others={UPLOADED: lambda: candidate(teacher)})
    # When it is to teach / Then it is refused, before the work and in it
    with pytest.raises(ClassesMismatch, match="tells 4 classes apart, and the student 2"):
        distill.check_teachers(student, uploaded, context)
    with pytest.raises(ClassesMismatch, match="tells 4 classes apart, and the student 2"):
        distill.apply(student, uploaded, context)


def test_a_student_larger_than_its_teacher_is_said_to_be(teacher: nn.Module) -> None:
    # Given a teacher / When a larger and a smaller network learn from it
    def warned(student: Distill) -> set[str]:
        codes: set[str] = set()
        context = Context(
            train=DATA, others={"original": lambda: candidate(teacher)}, notice=lambda code, _: codes.add(code)
        )
        distill.apply(candidate(copy.deepcopy(teacher)), student, context)
        return codes

    # Then the larger one is pointed out
    recipe = {"epochs": 1, "batch_size": 32}
    assert warned(Distill.model_validate({**recipe, "student": SMALL})) == {"larger_than_teacher"}
    assert warned(Distill.model_validate({**recipe, "student": {"width": 0.5}})) == set()
