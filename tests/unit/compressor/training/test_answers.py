"""A teacher is asked as seldom as can be, and says the same."""

from dataclasses import replace

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
    return said(answers_of(teacher, data, recipe, Context()), data, recipe, epochs)


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
