"""Training on CUDA does what it does on the CPU."""

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.methods import distill, fine_tune, prune_weights
from compressor.models.source import ModelSource, read_candidate
from contract.methods.distill import Distill
from contract.methods.prune import PruneWeights
from contract.methods.train import FineTune
from contract.model import Architecture, ModelFormat, Preprocessing

pytestmark = pytest.mark.gpu

INPUT = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def images() -> Images:
    """Two classes that differ in brightness."""
    labels = torch.arange(64) % 2
    pixels = torch.full((64, 3, 32, 32), 60, dtype=torch.uint8) + (labels * 120).to(torch.uint8).view(-1, 1, 1, 1)
    return Images(pixels, labels, INPUT, ("dark", "light"))


@pytest.fixture
def candidate() -> Candidate:
    """An untrained network."""
    architecture = Architecture(name="resnet18", options={"num_classes": 2})
    source = ModelSource(architecture=architecture, format=ModelFormat.SAFETENSORS, preprocessing=INPUT)
    return read_candidate(source, None, seed=0)


def test_fine_tuning_learns_and_keeps_zeros(cuda: torch.device, candidate: Candidate, images: Images) -> None:
    # Given a network with zeros
    candidate = prune_weights.apply(candidate, PruneWeights(amount=0.5), Context())
    curve: list[float] = []
    context = Context(
        device=cuda, train=images, record=lambda name, v: curve.extend(v) if name == "train_loss" else None
    )
    # When it is trained on the device
    trained = fine_tune.apply(candidate, FineTune(epochs=4, batch_size=16), context)
    # Then the loss falls and the zeros stay
    assert curve[-1] < curve[0]
    for name, mask in trained.masks.items():
        assert not trained.module.get_parameter(name)[~mask.to(cuda)].any()


def test_a_student_learns_on_the_device(cuda: torch.device, candidate: Candidate, images: Images) -> None:
    # Given a teacher on the device
    teacher = read_candidate(
        ModelSource(architecture=candidate.architecture, format=ModelFormat.SAFETENSORS, preprocessing=INPUT), None, 1
    )
    teacher.module.to(cuda)
    context = Context(device=cuda, train=images, others={"original": lambda: teacher})
    # When a student learns from it
    student = distill.apply(candidate, Distill(epochs=1, batch_size=16), context)
    # Then it lies on the device, with finite weights
    weight = student.module.get_parameter("fc.weight")
    assert weight.device.type == "cuda"
    assert bool(torch.isfinite(weight).all())
