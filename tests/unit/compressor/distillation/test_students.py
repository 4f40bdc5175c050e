"""Who can learn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.distillation.students import student_of
from compressor.measure.counting import count_macs, count_parameters
from compressor.models import files
from compressor.models.architectures import build
from compressor.models.replacement import Stem, replacement
from compressor.models.stems import smallest_map
from compressor.pruning.blocks import removable_blocks
from contract.failures import ClassesMismatch, UnfitModel
from contract.methods.distill import Distill, Scaled
from contract.model import Architecture
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, trained_candidate

NAME = "mdl_" + "0" * 26


def other(classes: int = 4) -> Candidate:
    """Another model, as the context hands it out."""
    architecture = NETWORK.model_copy(update={"options": {"num_classes": classes}})
    module = build(architecture, seed=5).eval().requires_grad_(False)
    return Candidate(module=module, architecture=architecture, preprocessing=PREPROCESSING, num_classes=classes)


def student(params: Distill, seed: int = 1) -> Candidate:
    others = {"original": trained_candidate, NAME: other}
    return student_of(trained_candidate(), params, Context(seed=seed, others=others))


def test_another_model_can_learn() -> None:
    # Given the id of another model / When it is to learn / Then it is that model, and it can be trained
    found = student(Distill(student=NAME))
    assert torch.equal(found.module.get_parameter("fc.weight"), other().module.get_parameter("fc.weight"))
    assert all(parameter.requires_grad for parameter in found.module.parameters())


def test_another_model_of_other_classes_cannot() -> None:
    # Given a model of seven classes / When it is to learn from one of four / Then it is refused
    context = Context(others={NAME: lambda: other(classes=7)})
    with pytest.raises(ClassesMismatch, match="7 classes"):
        student_of(trained_candidate(), Distill(student=NAME), context)


@pytest.mark.parametrize("classes", [("b", "a", "c", "d"), ("a", "b", "c", "x")], ids=["another order", "other names"])
def test_another_model_that_names_its_classes_otherwise_cannot(classes: tuple[str, ...]) -> None:
    # Given a model whose outputs stand for other classes than those of the job's model
    context = Context(others={NAME: lambda: replace(other(), classes=classes)})
    # When it is to go on from its weights / Then it is refused, where it is named
    candidate = replace(trained_candidate(), classes=("a", "b", "c", "d"))
    with pytest.raises(ClassesMismatch, match="other names than the model's, or stand in another order") as caught:
        student_of(candidate, Distill(student=NAME), context)
    assert [fault.pointer for fault in caught.value.errors] == ["/student"]


def test_another_model_of_another_preprocessing_is_told_of() -> None:
    # Given a model that was trained on images of another normalization, and one of the same
    brighter = PREPROCESSING.model_copy(update={"mean": (0.1, 0.1, 0.1)})
    for preprocessing, told in ((brighter, {"other_preprocessing"}), (PREPROCESSING, set())):
        said: dict[str, str] = {}
        context = Context(
            others={NAME: lambda its=preprocessing: replace(other(), preprocessing=its)}, notice=said.__setitem__
        )
        # When it is to learn / Then it takes images as the job's model does, and that is said
        made = student_of(trained_candidate(), Distill(student=NAME), context)
        assert made.preprocessing == PREPROCESSING
        assert said.keys() == told
        assert all("mean (0.5, 0.5, 0.5) instead of (0.1, 0.1, 0.1)" in sentence for sentence in said.values())


def test_a_scaled_copy_has_a_part_of_the_channels_and_is_fresh(tmp_path: Path) -> None:
    # Given a teacher / When a copy of half its width is to learn from it
    teacher, made = trained_candidate(), student(Distill(student=Scaled(width=0.5)))
    # Then it has about a quarter of the parameters and MACs, and nothing of the teacher's weights
    shape = teacher.input_shape
    assert 0.2 < count_parameters(made.module) / count_parameters(teacher.module) < 0.4
    assert 0.2 < count_macs(made.module, shape).total / count_macs(teacher.module, shape).total < 0.4
    assert not torch.equal(made.module.get_parameter("fc.bias"), teacher.module.get_parameter("fc.bias"))
    # And it is another one by another seed, and rebuilt from its files
    again, differently = (student(Distill(student=Scaled(width=0.5)), seed=seed) for seed in (1, 2))
    weight = made.module.get_parameter("fc.weight")
    assert torch.equal(weight, again.module.get_parameter("fc.weight"))
    assert not torch.equal(weight, differently.module.get_parameter("fc.weight"))
    files.write(made, tmp_path)
    assert torch.equal(files.read(tmp_path).module.get_parameter("fc.weight"), weight)


def test_a_scaled_copy_has_a_part_of_the_residual_blocks(tmp_path: Path) -> None:
    # Given a ResNet-18, which can do without five of its residual blocks
    network = Architecture(name="resnet18", options={"num_classes": 4})
    teacher = replace(trained_candidate(), module=build(network, seed=0).eval(), architecture=network)
    context = Context(others={"original": lambda: teacher})
    assert len(removable_blocks(teacher.module, teacher.input_shape)) == 5
    # When a copy of less depth, and one of half the width too, are to learn from it
    shallow, both = (
        student_of(teacher, Distill(student=Scaled(width=width, depth=0.4)), context) for width in (1.0, 0.5)
    )
    # Then two of the blocks are left, and the rest is narrower where it was asked to be
    assert removable_blocks(shallow.module, teacher.input_shape) == ("layer1.1", "layer3.1")
    assert count_parameters(both.module) < 0.4 * count_parameters(shallow.module)
    # And it is rebuilt from its files
    files.write(both, tmp_path)
    assert torch.equal(files.read(tmp_path).module.get_parameter("fc.weight"), both.module.get_parameter("fc.weight"))


@pytest.mark.parametrize("stem", ["auto", "keep"])
def test_a_scaled_copy_begins_as_its_teacher_does(stem: Stem, tmp_path: Path) -> None:
    # Given a ResNet-18 for images of 32 pixels, its first strides fitted to them or not
    network = Architecture(name="resnet18", options={"num_classes": 4})
    teacher = replacement(trained_candidate(), network, seed=0, stem=stem)
    # When a copy of half its width is to learn from it
    context = Context(others={"original": lambda: teacher})
    made = student_of(teacher, Distill(student=Scaled(width=0.5)), context)
    # Then its features are as fine as the teacher's, and so they are where it is rebuilt from its files
    fine = {"auto": 4, "keep": 1}[stem]
    files.write(made, tmp_path)
    for one in (teacher, made, files.read(tmp_path)):
        assert smallest_map(one.module, one.input_shape) == fine


def test_the_narrowest_copy_can_still_answer() -> None:
    # Given the least width that can be asked for / When such a copy is made / Then it tells all classes apart
    made = student(Distill(student=Scaled(width=0.01)))
    assert made.module(torch.zeros(1, *made.input_shape)).shape == (1, 4)


def test_a_depth_that_takes_nothing_away_is_refused() -> None:
    # Given a teacher with few residual blocks / When nearly all of its depth is to be kept / Then the sentence counts
    with pytest.raises(UnfitModel, match="residual blocks that it can do without"):
        student(Distill(student=Scaled(depth=0.95)))
