"""A teacher is asked as seldom as can be, and says the same."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from compressor.context import Context
from compressor.data.images import Images
from compressor.training.answers import Answers, answers_of
from contract.methods import Recipe
from tests.unit.compressor.small_jobs import images

DATA = images(20, seed=0)
CHANGED = Recipe(batch_size=8, augment="crop_flip")


class Counting(nn.Module):
    """A teacher that counts the images it is shown, and tells each from every other."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return torch.einsum("nchw,cw->nc", x, self.weight)


def said(answers: Answers, data: Images, recipe: Recipe, epochs: int) -> list[Tensor]:
    """What the student hears in so many epochs."""
    shown = (data.batches(6, seed=0, epoch=epoch, augment=recipe.augment) for epoch in range(epochs))
    return [answers(batch) for batches in shown for batch in batches]


def heard(teacher: Counting, data: Images, recipe: Recipe, epochs: int = 5) -> list[Tensor]:
    answers, _ = answers_of(teacher, data, recipe, Context(), width=3)
    return said(answers, data, recipe, epochs)


@pytest.mark.parametrize(
    ("recipe", "views", "asked"),
    [
        (Recipe(batch_size=8), None, 1),
        (CHANGED, 3, 3),
        (CHANGED, None, 5),
        (Recipe(batch_size=8, mix="mixup"), None, 5),
    ],
    ids=["as they are", "three versions", "new in each epoch", "blended"],
)
def test_a_teacher_sees_each_version_of_an_image_once(recipe: Recipe, views: int | None, asked: int) -> None:
    # Given images that a recipe changes or leaves / When a student hears of them for five epochs
    teacher = Counting()
    heard(teacher, replace(DATA, views=views), recipe)
    # Then the teacher was shown each version once
    assert teacher.asked == asked * len(DATA)


@pytest.mark.parametrize("recipe", [Recipe(batch_size=8), CHANGED], ids=["as they are", "changed"])
def test_what_was_kept_is_what_would_be_said(recipe: Recipe) -> None:
    # Given images of which there are two versions, or one / When answers are kept
    data = replace(DATA, views=2)
    kept = heard(Counting(), data, recipe)
    # Then they are what the teacher says to each batch as the student sees it
    teacher = Counting()
    live = said(lambda batch: teacher(batch.x).detach(), data, recipe, epochs=5)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(kept, live, strict=True))


def test_versions_of_an_image_come_again_and_are_unlike_each_other() -> None:
    # Given images with two versions / When four epochs are seen in the dataset's order
    data = replace(DATA, views=2)
    epochs = [torch.cat([b.x for b in data.batches(6, epoch=epoch, augment="crop_flip")]) for epoch in range(4)]
    # Then the versions follow each other
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], epochs[3])
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("recipe", [Recipe(batch_size=4), CHANGED], ids=["kept", "live"])
def test_no_gradient_reaches_the_teacher(recipe: Recipe) -> None:
    # Given a teacher that could be trained / When it answers
    teacher = Counting()
    told = heard(teacher, DATA, recipe, epochs=1)[0]
    # Then its answers are constants, which may take part in a student's loss
    student = torch.zeros(told.shape, requires_grad=True)
    (student - told).square().sum().backward()
    assert not told.requires_grad
    assert teacher.weight.grad is None


def test_answers_that_take_too_much_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given room for the answers to one version of the images
    monkeypatch.setattr("compressor.training.answers.LARGEST", len(DATA) * 3 * 4)
    teacher, notices = Counting(), dict[str, str]()
    context = Context(notice=notices.__setitem__)
    # When a student hears of one version for five epochs / Then the teacher was asked once, and nothing is said
    once, _ = answers_of(teacher, DATA, Recipe(batch_size=8, epochs=5), context, width=3)
    said(once, DATA, Recipe(), epochs=5)
    assert (teacher.asked, notices) == (len(DATA), {})
    # When it hears of two / Then the teacher is asked in every epoch, says the same, and that is told
    two, recipe = replace(DATA, views=2), CHANGED.model_copy(update={"epochs": 5})
    live, _ = answers_of(teacher, two, recipe, context, width=3)
    anew = said(live, two, recipe, epochs=5)
    assert teacher.asked == 6 * len(DATA)
    assert notices.keys() == {"answers_not_kept"}
    monkeypatch.undo()
    kept = heard(Counting(), two, recipe)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(anew, kept, strict=True))


def test_progress_goes_on_while_the_teacher_is_asked() -> None:
    # Given two versions of images, which are asked for in the first and in the second of three epochs
    told: list[tuple[float, str]] = []
    data, recipe = replace(DATA, views=2), Recipe(epochs=3, batch_size=6, augment="crop")
    context = Context(progress=lambda fraction, phase: told.append((fraction, phase)))
    # When the training tells its own progress behind each batch
    answers, inner = answers_of(Counting(), data, recipe, context, width=3)
    for epoch in range(3):
        batches = list(data.batches(6, seed=0, epoch=epoch, augment="crop"))
        for number, batch in enumerate(batches):
            answers(batch)
            inner.progress((epoch + (number + 1) / len(batches)) / 3, "training")
    # Then every batch that is asked for moves it, as every batch that is learnt from does, up to the end
    fractions = [fraction for fraction, _ in told]
    assert all(before < after for before, after in pairwise(fractions))
    assert fractions[-1] == pytest.approx(1.0)
    assert [phase for _, phase in told].count("asking the teacher") == 2 * 4
