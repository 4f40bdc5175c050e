"""The memory of contrastive distillation, against the paper's formula written out image by image."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.distillation.memory import Memory, check_memory, others_of
from contract.failures import MissingData
from contract.methods.objectives import Crd

IMAGES, WIDTH, TEMPERATURE = 7, 5, 0.5
INDEX = torch.tensor([4, 0, 6])


@pytest.fixture
def memory() -> Memory:
    """A memory as it begins."""
    torch.manual_seed(0)
    return Memory(IMAGES, WIDTH).double()


def seen(seed: int) -> Tensor:
    drawn = torch.randn(len(INDEX), WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=1)


def written_out(memory: Tensor, vectors: Tensor, others: list[list[int]], z: float) -> float:
    """Equations 17 to 19, with every factor as the paper has it."""

    def critic(vector: list[float], image: int) -> float:
        cosine = sum(a * b for a, b in zip(vector, memory[image].tolist(), strict=True))
        p = exp(cosine / TEMPERATURE) / z
        return p / (p + len(others[0]) / IMAGES)

    total = 0.0
    for vector, own, drawn in zip(vectors.tolist(), INDEX.tolist(), others, strict=True):
        total -= log(critic(vector, own))
        total -= sum(log(1 - critic(vector, other)) for other in drawn)
    return total / len(INDEX)


def test_the_contrast_is_the_papers(memory: Memory) -> None:
    # Given four others for each image, some of them twice
    others = [[0, 1, 2, 2], [3, 6, 5, 1], [1, 1, 0, 5]]
    first = seen(1)
    # When a first batch is told from them
    found = memory.contrast(first, INDEX, torch.tensor(others), temperature=TEMPERATURE)
    # Then Z is what they give on average for each of all images, and the loss is that of equation 17
    scores = [
        exp(float(vector @ memory.directions[other]) / TEMPERATURE)
        for vector, drawn in zip(first, others, strict=True)
        for other in drawn
    ]
    z = IMAGES * sum(scores) / len(scores)
    assert float(found) == pytest.approx(written_out(memory.directions, first, others, z), rel=1e-9)
    # And a later batch keeps that Z
    second = seen(2)
    found = memory.contrast(second, INDEX, torch.tensor(others), temperature=TEMPERATURE)
    assert float(found) == pytest.approx(written_out(memory.directions, second, others, z), rel=1e-9)


def test_low_temperatures_have_gradients(memory: Memory) -> None:
    # Given a temperature at which no float holds the exponentials / When images are told apart
    vectors = seen(1).requires_grad_()
    memory.contrast(vectors, INDEX, others_of(INDEX, 4, images=IMAGES), temperature=1e-3).backward()
    # Then the gradient is a number
    assert vectors.grad is not None
    assert bool(vectors.grad.isfinite().all() & vectors.grad.any())


def test_half_of_what_was_remembered_stays(memory: Memory) -> None:
    # Given what was remembered / When three images are seen
    before, vectors = memory.directions.clone(), seen(1)
    memory.remember(vectors, INDEX)
    # Then theirs is the direction between old and new, and nobody else's has changed
    for row, image in enumerate(INDEX.tolist()):
        mean = (before[image] + vectors[row]) / 2
        torch.testing.assert_close(memory.directions[image], mean / mean.norm())
    rest = [image for image in range(IMAGES) if image not in INDEX.tolist()]
    assert torch.equal(memory.directions[rest], before[rest])


def test_a_memory_can_be_moved_on_before_the_gradient_is_asked_for(memory: Memory) -> None:
    # Given a batch that was told apart / When it is remembered first, and the gradient comes behind
    vectors, again = seen(1).requires_grad_(), seen(1).requires_grad_()
    others = others_of(INDEX, 4, images=IMAGES)
    memory.contrast(again, INDEX, others, temperature=TEMPERATURE).backward()
    found = memory.contrast(vectors, INDEX, others, temperature=TEMPERATURE)
    memory.remember(vectors.detach(), INDEX)
    found.backward()
    # Then it is that of the memory as it was
    assert vectors.grad is not None
    assert again.grad is not None
    assert torch.equal(vectors.grad, again.grad)


def test_one_image_has_no_others() -> None:
    # Given one image / When it is to be told from others / Then that is said, unless the batch has to do
    with pytest.raises(MissingData, match="one image"):
        check_memory(Crd(negatives=4), pairs=1, images=1, pointer="/objective/0/negatives")
    check_memory(Crd(), pairs=1, images=1, pointer="/objective/0/negatives")


def test_others_are_drawn_evenly_and_are_others() -> None:
    # Given many draws for each image / When they are counted
    torch.manual_seed(0)
    others = others_of(INDEX, 6000, images=IMAGES)
    counts = torch.stack([row.bincount(minlength=IMAGES) for row in others])
    # Then none is the image itself, and each of the six others comes about as often
    assert counts.gather(1, INDEX[:, None]).eq(0).all()
    rest = counts[counts > 0]
    assert len(rest) == len(INDEX) * (IMAGES - 1)
    assert bool(((rest - 1000).abs() < 150).all())
