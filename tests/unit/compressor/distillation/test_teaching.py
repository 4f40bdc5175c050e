"""A student learns from weighted terms, and what they learn ends with the training."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context, Interrupted
from compressor.distillation.teaching import teaching
from compressor.methods import distill
from compressor.models.architectures import build
from compressor.training.answers import live_answers
from contract.failures import ClassesMismatch, NoLayerMatches, UnfitModel
from contract.methods.distill import Distill
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained

DATA = images(48, seed=0)
NAMES = ("a", "b", "c", "d")
FEATURES = ("fitnet", "attention", "similarity", "rkd", "crd")
REMEMBERED: dict[str, object] = {"objective": "crd", "negatives": 20}
#: Widths that differ from the teacher's, so that adapters are needed.
OTHER = Architecture(library="timm", name="test_efficientnet", options={"num_classes": 4})


@pytest.fixture(scope="module")
def teacher() -> Candidate:
    """A network that knows the images."""
    made = trained()
    made.zero_grad(set_to_none=True)
    return candidate(made)


def candidate(module: nn.Module, architecture: Architecture = NETWORK) -> Candidate:
    return Candidate(module=module, architecture=architecture, preprocessing=PREPROCESSING, num_classes=4)


def fresh(architecture: Architecture = OTHER) -> Candidate:
    return candidate(build(architecture, seed=3).eval(), architecture)


def params(objective: object, **options: object) -> Distill:
    recipe = {"epochs": 1, "batch_size": 12, "learning_rate": 3e-3, "alpha": 1.0}
    return Distill.model_validate(recipe | {"objective": objective} | options)


def taught(
    student: Candidate, asked: Distill, teacher: Candidate, notes: dict[str, Json] | None = None, **more: object
) -> Candidate:
    context = Context(
        train=DATA, seed=1, others={"original": lambda: teacher}, record=({} if notes is None else notes).__setitem__
    )
    return distill.apply(student, asked, replace(context, **more))  # type: ignore[arg-type]


class Counting(nn.Module):
    """A network that counts the images that it has answered to, but for single ones, which show shapes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x) if len(x) > 1 else 0
        logits: Tensor = self.network(x)
        return logits


def curve(notes: Mapping[str, Json], name: str) -> list[float]:
    terms = notes["terms"]
    assert isinstance(terms, dict)
    found = terms[name]
    assert isinstance(found, list)
    return [float(str(mean)) for mean in found]


@pytest.mark.parametrize("term", [*({"objective": n} for n in ("kl", "mse", "dkd", "dist", *FEATURES)), REMEMBERED])
def test_every_term_reaches_the_student_and_not_the_teacher(teacher: Candidate, term: object) -> None:
    # Given a student of another architecture, with each objective alone
    asked, student = params([term]), fresh()
    student.module.train()
    batch = next(DATA.batches(24))
    with teaching(asked, Context(), student=student, teacher=teacher, voice=teacher.module, images=len(DATA)) as lesson:
        objective = lesson.objective(live_answers(lesson.voice, asked, Context()))
        # When a batch is seen
        objective(student.module(batch.x), batch).backward()
        # Then the student has gradients, and what the objective learns, and the teacher has none
        assert any(bool(p.grad.abs().sum() > 0) for p in student.module.parameters() if p.grad is not None)
        assert all(p.grad is not None for p in objective.parameters())
        assert all(p.grad is None for p in teacher.module.parameters())
    # And nobody listens any more
    assert not any(part._forward_hooks for side in (student, teacher) for part in side.module.modules())


@pytest.mark.parametrize("term", [*({"objective": name} for name in FEATURES), REMEMBERED])
def test_features_come_nearer_to_the_teachers(teacher: Candidate, term: dict[str, object]) -> None:
    # Given a student that learns from features alone / When it does so for some epochs
    notes: dict[str, Json] = {}
    taught(fresh(), params([term], epochs=4), teacher, notes)
    # Then the distance, which the report tells epoch by epoch, falls
    found = curve(notes, str(term["objective"]))
    assert len(found) == 4
    assert found[-1] < 0.9 * found[0]


@pytest.mark.parametrize("name", ["dkd", "dist"])
def test_answers_come_nearer_to_the_teachers(teacher: Candidate, name: str) -> None:
    # Given a student that learns by name / When it does so for some epochs
    notes: dict[str, Json] = {}
    taught(fresh(NETWORK), params(name, epochs=4, alpha=0.9), teacher, notes)
    # Then the distance falls, and that to the labels beside it
    for term in (name, "labels"):
        assert curve(notes, term)[-1] < 0.7 * curve(notes, term)[0]


def test_the_loss_is_the_weighted_sum_of_its_terms(teacher: Candidate) -> None:
    # Given terms with weights, one of them asked for twice
    notes: dict[str, Json] = {}
    terms = [
        {"objective": "kl", "weight": 2.0, "temperature": 2.0},
        {"objective": "kl", "weight": 3.0, "standardize": True},
        {"objective": "attention", "weight": 5.0},
    ]
    # When a student learns from them and a quarter from labels
    taught(fresh(), params(terms, alpha=0.75), teacher, notes)
    # Then each is told by its name, unweighted, and the loss is their sum
    found = {name: curve(notes, name)[0] for name in ("kl", "kl 2", "attention", "labels")}
    expected = 0.75 * (2 * found["kl"] + 3 * found["kl 2"] + 5 * found["attention"]) + 0.25 * found["labels"]
    losses = notes["train_loss"]
    assert isinstance(losses, list)
    assert losses[0] == pytest.approx(expected, rel=1e-5)


def test_what_a_term_learns_is_no_part_of_the_artifact(teacher: Candidate) -> None:
    # Given terms with adapters / When a student has learned from them
    notes: dict[str, Json] = {}
    made = taught(fresh(), params([{"objective": "fitnet"}, {"objective": "crd"}]), teacher, notes)
    # Then it has the tensors of the plain architecture and no others, and the report tells what was matched
    assert made.module.state_dict().keys() == fresh().module.state_dict().keys()
    matched = notes["matched_layers"]
    stages = [["blocks.0.0", "act1"], *([f"blocks.{n}.0", f"layer{n}.0"] for n in (1, 2, 3)), ["bn2", "layer4.0"]]
    assert matched == {"fitnet": stages, "crd": stages[-1:]}


def test_an_interrupted_distillation_ends_as_an_uninterrupted_one(teacher: Candidate) -> None:
    # Given a distillation with adapters and a memory that nobody stops
    terms = [{"objective": "fitnet"}, {"objective": "crd"}, REMEMBERED, {"objective": "kl"}]
    recipe = {"epochs": 3, "augment": "crop", "clip_norm": 1.0, "average": 0.9, "alpha": 0.5}
    asked = params(terms, **recipe)
    whole_notes: dict[str, Json] = {}
    whole = taught(fresh(), asked, teacher, whole_notes)
    # When another is interrupted, and a third goes on from there with torch's own generator elsewhere
    stopping = StopAt(1)
    with pytest.raises(Interrupted):
        taught(fresh(), asked, teacher, checkpoints=stopping)
    torch.manual_seed(99)
    notes: dict[str, Json] = {}
    resumed = taught(fresh(), asked, teacher, notes, checkpoints=GoOnFrom(stopping.kept[0]))
    # Then it ends with the same weights, to the last bit, and tells the same curves
    pairs = zip(resumed.module.state_dict().values(), whole.module.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    assert (notes["terms"], notes["train_loss"]) == (whole_notes["terms"], whole_notes["train_loss"])


def test_adapters_learn(teacher: Candidate) -> None:
    # Given a student whose adapters are in every checkpoint / When two epochs are done
    stopping = StopAt(99)
    taught(fresh(), params([{"objective": "fitnet"}], epochs=2), teacher, checkpoints=stopping)
    first, second = (
        {name: t for name, t in state.tensors.items() if name.startswith("objective.")} for state in stopping.kept
    )
    # Then they have moved
    assert first
    assert all(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("answered", [True, False])
def test_what_a_teacher_says_to_features_is_kept(
    teacher: Candidate, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given every term that looks at features, alone or with answers beside, and images that come again as they are
    terms = [*({"objective": name} for name in FEATURES), REMEMBERED, *([{"objective": "kl"}] if answered else [])]
    asked = params(terms, epochs=3)
    counting = Counting(teacher.module)
    # When a student learns from them
    kept = taught(fresh(), asked, replace(teacher, module=counting))
    # Then the teacher has answered to each image once
    assert counting.seen == len(DATA)
    # And where there is no room for its answers, the same is learnt from one who answers every time, and it is said
    monkeypatch.setattr("compressor.training.answers.LARGEST", 0)
    notices: list[str] = []
    again = taught(
        fresh(), asked, replace(teacher, module=counting), notice=lambda code, sentence: notices.append(code)
    )
    assert counting.seen == (1 + 3) * len(DATA)
    assert notices == ["answers_not_kept"]
    for name, tensor in kept.module.state_dict().items():
        assert torch.allclose(tensor, again.module.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_what_a_batch_shows_is_remembered_by_image(teacher: Candidate) -> None:
    # Given a student that tells images from remembered ones, and a batch of some of them
    asked, student = params([REMEMBERED]), fresh()
    batch = next(DATA.batches(12, seed=5))
    with teaching(asked, Context(), student=student, teacher=teacher, voice=teacher.module, images=len(DATA)) as lesson:
        objective = lesson.objective(live_answers(lesson.voice, asked, Context()))
        before = {name: kept.clone() for name, kept in objective.named_buffers() if name.endswith("directions")}
        # When it is seen
        objective(student.module(batch.x), batch)
        # Then both memories have moved for its images, and for no others
        assert len(before) == 2
        for name, kept in before.items():
            moved = (objective.get_buffer(name) != kept).any(1).nonzero()[:, 0]
            assert torch.equal(moved, batch.index.sort().values)


def test_a_memory_of_too_many_images_is_refused(teacher: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given room for less than two networks' 128 numbers for each of 48 images
    monkeypatch.setattr("compressor.distillation.memory.LARGEST", 2 * 48 * 128 * 4 - 1)
    # When a term asks for such a memory / Then it is told what to change, and where
    with pytest.raises(UnfitModel, match=r"48 images at width 128 takes .* Lower width") as caught:
        taught(fresh(), params([{"objective": "kl"}, REMEMBERED]), teacher)
    assert caught.value.errors[0].pointer == "/objective/1/negatives"


def test_layers_can_be_named(teacher: Candidate) -> None:
    # Given pairs of layers, vectors among them / When a student learns from them
    notes: dict[str, Json] = {}
    pairs = [["layer1.0.conv1", "layer2"], ["fc", "fc"]]
    taught(fresh(NETWORK), params([{"objective": "fitnet", "layers": pairs}]), teacher, notes)
    # Then these are compared
    assert notes["matched_layers"] == {"fitnet": pairs}


def test_a_students_layer_that_is_not_there_is_refused_before_the_work(teacher: Candidate) -> None:
    # Given a pair whose first layer is no layer / When the step is looked at / Then that is said, and where
    asked = params([{"objective": "kl"}, {"objective": "rkd", "layers": [["layer4", "layer4"], ["layer5", "layer4"]]}])
    with pytest.raises(NoLayerMatches, match="The student has no layer layer5") as caught:
        distill.preflight(fresh(NETWORK), asked)
    assert caught.value.errors[0].pointer == "/objective/1/layers/1/0"


def test_a_teachers_layer_that_is_not_there_is_refused_at_the_start(teacher: Candidate) -> None:
    # Given a pair whose second layer is no layer / When the step begins / Then that is said, and where
    asked = params([{"objective": "rkd", "layers": [["layer4", "stage4"]]}])
    distill.preflight(fresh(NETWORK), asked)
    with pytest.raises(NoLayerMatches, match="The teacher has no layer stage4") as caught:
        taught(fresh(NETWORK), asked, teacher)
    assert caught.value.errors[0].pointer == "/objective/0/layers/0/1"


def test_attention_to_a_single_place_is_refused(teacher: Candidate) -> None:
    # Given maps of one pixel, which are all the same at length one / When they are compared / Then that is said
    asked = params([{"objective": "attention", "layers": [["layer4", "layer4"]]}])
    with pytest.raises(UnfitModel, match="layer4 and layer4 share no more than one place"):
        taught(fresh(NETWORK), asked, teacher)


def wide(classes: tuple[str, ...] | None, columns: list[int]) -> Candidate:
    """A teacher of six classes that answers with the brightness of these channels of an image."""

    class Bright(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            bright = self.conv(x).mean((2, 3))
            answers: Tensor = bright.repeat(1, 2)[:, columns]
            return answers

    torch.manual_seed(0)
    return replace(candidate(Bright().eval()), num_classes=len(columns), classes=classes)


def test_features_need_no_classes_in_common() -> None:
    # Given a teacher of six classes without names / When a student of four learns from its features / Then it does
    made = taught(fresh(), params([{"objective": "rkd"}], alpha=0.5), wide(None, [0, 1, 2, 0, 1, 2]))
    assert made.num_classes == 4


@pytest.mark.parametrize(("classes", "known"), [(NAMES, True), (None, True), (("w", "x", "y", "z"), False)])
def test_a_teacher_of_features_is_told_to_be_right_where_its_classes_are_the_students(
    classes: tuple[str, ...] | None, known: bool
) -> None:
    # Given a teacher of the student's classes, in another order or without names, or of others / When it teaches
    notes: dict[str, Json] = {}
    tutor = wide(classes, [2, 1, 0, 2])
    asked = params([{"objective": "rkd"}], alpha=0.5)
    taught(
        replace(fresh(), classes=NAMES[::-1]),
        asked,
        tutor,
        notes,
        right=lambda module, sights: torch.tensor([True, False]),
    )
    # Then the report has its accuracy where that means something
    assert ("accuracy_of_teacher" in notes) == known
    assert notes["accuracy_after"] == 0.5


def test_of_several_teachers_the_first_is_looked_into(teacher: Candidate) -> None:
    # Given a student that learns features, and next to nothing of answers / When one teaches, and two in either order
    other = candidate(build(NETWORK, seed=9).eval())
    terms = [{"objective": "rkd"}, {"objective": "kl", "weight": 1e-9}]
    found = []
    for names in (["original"], ["original", "step_0"], ["step_0", "original"]):
        notes: dict[str, Json] = {}
        others = {"original": lambda: teacher, "step_0": lambda: other}
        taught(fresh(), params(terms, teacher=names), teacher, notes, others=others)
        found.append(curve(notes, "rkd"))
    # Then it is the first whose features are learnt
    alone, first, second = found
    assert first == pytest.approx(alone, rel=1e-4)
    assert second != pytest.approx(alone, rel=1e-2)


def test_several_teachers_must_have_something_to_say() -> None:
    # Given features alone, which are those of one / When several are named / Then it is refused by the spec
    with pytest.raises(ValidationError, match="so teacher must name one"):
        params([{"objective": "rkd"}], teacher=["original", "step_0"])


def test_answers_do(teacher: Candidate) -> None:
    # Given the same teacher / When the student is to learn its answers too / Then the numbers of classes are told
    with pytest.raises(ClassesMismatch, match="The teacher tells 6 classes apart, and the student 4"):
        taught(fresh(), params([{"objective": "rkd"}, {"objective": "kl"}]), wide(None, [0, 1, 2, 0, 1, 2]))


def test_a_class_that_the_teacher_does_not_know_is_named() -> None:
    # Given names on both sides / When one of the student's is not among the teacher's / Then it is told
    student = replace(fresh(), classes=("red", "green", "blue", "plaid"))
    tutor = wide(("blue", "green", "red", "violet", "pink", "olive"), [0, 1, 2, 0, 1, 2])
    with pytest.raises(ClassesMismatch, match="of which the teacher does not know plaid"):
        taught(student, params("kl"), tutor)


def test_names_that_agree_in_part_are_not_taken_in_order() -> None:
    # Given as many names on both sides, of which one is the student's alone
    student, tutor = replace(fresh(), classes=("a", "b", "c", "d")), wide(("b", "a", "c", "x"), [0, 1, 2, 0])
    # When the student is to learn what the teacher says / Then the one is told, and where the teacher is named
    with pytest.raises(ClassesMismatch, match="of which the teacher does not know d") as caught:
        taught(student, params("kl"), tutor)
    assert [fault.pointer for fault in caught.value.errors] == ["/teacher"]


def test_names_that_do_not_agree_at_all_are_taken_in_order_and_said_to_be() -> None:
    # Given a teacher whose names are in another language / When it teaches / Then it is said who is taken for whom
    student, tutor = replace(fresh(), classes=("a", "b", "c", "d")), wide(("w", "x", "y", "z"), [0, 1, 2, 0])
    said: dict[str, str] = {}
    taught(student, params("kl"), tutor, notice=said.__setitem__)
    assert "a as w, b as x, c as y, d as z" in said["classes_by_order"]
    # And where one of both has no names, there is nothing to say
    said.clear()
    taught(replace(student, classes=None), params("kl"), tutor, notice=said.__setitem__)
    assert "classes_by_order" not in said


@pytest.mark.parametrize("objective", ["mse", [{"objective": "mse"}, {"objective": "rkd", "weight": 1e-9}]])
def test_classes_are_matched_by_name(objective: object) -> None:
    # Given a teacher that has the student's classes among others, in another order
    names = ("red", "green", "blue", "yellow")
    other = ("pink", "yellow", "blue", "green", "olive", "red")
    student = replace(fresh(NETWORK), classes=names)
    ordered = replace(wide(names, [0, 1, 2, 2]), classes=names)
    among = wide(other, [1, 2, 2, 1, 0, 0])
    # When it teaches, with its answers kept or live / Then the student learns what it would in the same order
    first, second = (
        taught(copy.deepcopy(student), params(objective), one).module.state_dict() for one in (ordered, among)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_labels_are_not_used_where_alpha_is_one(teacher: Candidate) -> None:
    # Given the same images with other labels
    others = replace(DATA, labels=DATA.labels.roll(1))
    for objective in ("dkd", [{"objective": "dkd"}, {"objective": "attention"}]):
        # When a student learns from the teacher alone / Then it learns the same
        first, second = (
            taught(fresh(), params(objective), teacher, train=data).module.state_dict() for data in (DATA, others)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)
    # And where labels have a part, it does not
    mixed = [
        taught(fresh(), params("dkd", alpha=0.9), teacher, train=data).module.state_dict() for data in (DATA, others)
    ]
    assert any(not torch.equal(mixed[0][name], mixed[1][name]) for name in mixed[0])


def test_half_precision_of_the_network_leaves_terms_in_float32(teacher: Candidate) -> None:
    # Given a student that computes in bfloat16 / When it learns from features and answers / Then terms fall as well
    notes: dict[str, Json] = {}
    terms = [{"objective": "fitnet"}, {"objective": "dist"}]
    made = taught(fresh(NETWORK), params(terms, epochs=3, precision="bf16"), teacher, notes)
    assert {parameter.dtype for parameter in made.module.parameters()} == {torch.float32}
    for term in ("fitnet", "dist"):
        assert curve(notes, term)[-1] < curve(notes, term)[0]
