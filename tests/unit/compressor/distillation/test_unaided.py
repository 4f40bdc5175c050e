"""What the teacher is worth: a training on labels alone beside the distillation, which it does not touch."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Checkpoints, Context, Interrupted, NoCheckpoints
from compressor.measure.accuracy import answers, lost_between, top1
from compressor.methods import distill, fine_tune
from compressor.models.architectures import build
from contract.methods.distill import Distill
from contract.methods.train import FineTune
from contract.value import Json
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained_candidate

DATA, OTHERS = images(96, seed=0), images(64, seed=1)
RECIPE: dict[str, object] = {"epochs": 2, "batch_size": 24, "learning_rate": 3e-3}
COMPARING = Distill.model_validate({**RECIPE, "compare_without_teacher": True})


def student() -> Candidate:
    return Candidate(
        module=build(NETWORK, seed=3).eval(), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4
    )


def right(module: nn.Module) -> Tensor:
    """Which of the other images a network is right on."""
    return top1(answers(copy.deepcopy(module).eval(), OTHERS)) == OTHERS.labels


def context(notes: dict[str, Json], checkpoints: Checkpoints | None = None) -> Context:
    return Context(
        train=DATA,
        seed=5,
        others={"original": trained_candidate},
        record=notes.__setitem__,
        right=lambda module, sights: right(module),
        checkpoints=checkpoints or NoCheckpoints(),
    )


def same(one: Candidate, other: Candidate) -> bool:
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def timeless(notes: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in notes.items() if "per_second" not in name}


def test_the_comparison_tells_what_labels_alone_come_to_and_leaves_the_student_alone() -> None:
    # Given a student that learns from a teacher, and one that learns from labels by the same recipe and seed
    plain = distill.apply(student(), Distill.model_validate(RECIPE), context({}))
    alone: dict[str, Json] = {}
    labelled = fine_tune.apply(student(), FineTune.model_validate(RECIPE), context(alone))
    # When a step compares the two
    notes: dict[str, Json] = {}
    made = distill.apply(student(), COMPARING, context(notes))
    # Then the student is as it would be without the comparison
    assert same(made, plain)
    # And the report has the accuracy of everyone, and the curve of the other training
    ends = {"after": right(made.module), "without_teacher": right(labelled.module)}
    for name, found in ends.items():
        assert notes[f"accuracy_{name}"] == float(found.double().mean())
    # And what the teacher is worth, as the difference on the same images
    lost = lost_between(ends["after"], ends["without_teacher"])
    assert notes["gain"] == {"value": lost.value, "n": 64, "ci95": list(lost.ci95)}
    assert lost.value == pytest.approx(float(ends["after"].double().mean() - ends["without_teacher"].double().mean()))
    assert notes["train_loss_without_teacher"] == alone["train_loss"]
    assert isinstance(notes["accuracy_of_teacher"], float)
    assert notes["accuracy_of_teacher"] > 0.8
    assert notes["accuracy_before"] != notes["accuracy_after"]


def test_without_images_to_compare_by_it_is_said_that_there_is_no_gain() -> None:
    # Given a comparison with no labelled images to compare by / When it is done
    notes, said = dict[str, Json](), dict[str, str]()
    where = replace(context(notes), right=Context().right, notice=said.__setitem__)
    distill.apply(student(), COMPARING, where)
    # Then both have their curves, and it is said why there is no gain
    assert {"train_loss", "train_loss_without_teacher"} <= notes.keys()
    assert "gain" not in notes
    assert "data.evaluation" in said["gain_not_measured"]


@pytest.mark.parametrize("number", [1, 2, 3], ids=["in the first training", "behind it", "in the second"])
def test_a_comparison_that_is_interrupted_ends_as_an_uninterrupted_one(number: int) -> None:
    # Given a comparison of two trainings of two epochs
    whole: dict[str, Json] = {}
    made = distill.apply(student(), COMPARING, context(whole))
    # When another is interrupted, and goes on
    stopping, notes = StopAt(number), dict[str, Json]()
    with pytest.raises(Interrupted):
        distill.apply(student(), COMPARING, context(notes, stopping))
    resumed = distill.apply(student(), COMPARING, context(notes, GoOnFrom(stopping.kept[-1])))
    # Then the student is the same, to the last bit, and so is what was told
    assert same(resumed, made)
    assert {n: v for n, v in notes.items() if "second" not in n} == {
        n: v for n, v in whole.items() if "second" not in n
    }
