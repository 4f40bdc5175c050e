"""Layers match by the ends of stages, by depth, or by name."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.distillation.matching import Side, matched
from compressor.distillation.taps import features_of, tapped
from compressor.models.architectures import build
from contract.failures import NoLayerMatches, UnfitModel
from contract.model import Architecture
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING


def side(library: str, name: str, size: int = 32, **options: int) -> Side:
    architecture = Architecture.model_validate({"library": library, "name": name, "options": options})
    # On meta, because shapes are all that matters.
    return Side(candidate(build(architecture, device="meta").eval(), size), role="student")


def candidate(module: nn.Module, size: int = 32) -> Candidate:
    preprocessing = PREPROCESSING.model_copy(update={"size": (size, size)})
    return Candidate(module=module, architecture=NETWORK, preprocessing=preprocessing, num_classes=4)


def names(student: Side, teacher: Side) -> list[tuple[str, str]]:
    return [(pair.student.name, pair.teacher.name) for pair in matched(student, teacher)]


def test_the_small_network_matches_itself() -> None:
    # Given a residual network of four stages behind a stem / When it meets itself / Then each end meets itself
    ends = ["act1", "layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert names(side("timm", "test_resnet"), side("timm", "test_resnet")) == [(end, end) for end in ends]


def test_other_architectures_match_where_their_maps_are_of_the_same_size() -> None:
    # Given ResNet-18 and MobileNetV3 small, for images of other sizes
    student, teacher = side("torchvision", "mobilenet_v3_small", 64), side("torchvision", "resnet18", 96)
    # When they are matched / Then the stages do that have halved the image as often
    assert names(student, teacher) == [
        ("features.0.2", "relu"),
        ("features.1", "layer1.1"),
        ("features.3", "layer2.1"),
        ("features.8", "layer3.1"),
        ("features.12.2", "layer4.1"),
    ]


class Strided(nn.Module):
    """Convolutions that halve the image as often as is said, each followed by one that does not."""

    def __init__(self, *strides: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.rest = nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1, stride=stride) for stride in strides])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.rest(self.first(x))
        return found.mean((2, 3))


def test_the_last_meet_the_last_whatever_their_sizes() -> None:
    # Given a teacher that halves the image twice, and a student that does so three times
    student = Side(candidate(Strided(2, 1, 2, 1, 2, 1).eval()), role="student")
    teacher = Side(candidate(Strided(2, 1, 2, 1).eval()), role="teacher")
    # When they are matched / Then the ends do, and the others where sizes are the same
    assert names(student, teacher) == [("first", "first"), ("rest.1", "rest.1"), ("rest.5", "rest.3")]


def test_transformers_are_cut_into_quarters_and_meet_by_depth() -> None:
    # Given a transformer of six blocks, and a residual network of five stages / When they are matched
    student, teacher = side("timm", "test_vit", 160), side("timm", "test_resnet", 160)
    # Then each quarter of the transformer meets the stage that is as deep in the other
    assert names(student, teacher) == [
        ("blocks.0", "act1"),
        ("blocks.2", "layer1.0"),
        ("blocks.3", "layer3.0"),
        ("blocks.5", "layer4.0"),
    ]
    assert names(student, student)[-1] == ("blocks.5", "blocks.5")


def test_an_encoder_in_one_part_is_taken_apart() -> None:
    # Given torchvision's transformer, whose blocks lie within one module / When it meets itself / Then blocks do
    options = {"image_size": 32}
    found = [one for one, _ in names(*[side("torchvision", "vit_b_16", 32, **options)] * 2)]
    assert found == [f"encoder.layers.encoder_layer_{block}" for block in (1, 4, 8, 11)]


def test_a_network_of_vectors_asks_for_names() -> None:
    # Given a network without maps and tokens / When its ends are asked for / Then names are
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.Linear(8, 4)).eval()
    student = Side(candidate(flat), role="student")
    with pytest.raises(UnfitModel, match="The student has no features to match"):
        student.ends()
    assert student.named("1", "/x").shape == (8,)


def test_a_name_that_is_no_layer_is_told_with_the_nearest() -> None:
    # Given a network / When a layer is named wrongly / Then the failure points to it and knows better
    student = side("timm", "test_resnet")
    with pytest.raises(NoLayerMatches, match=r"The student has no layer layer3\.1\. Near to it: layer3.*") as caught:
        student.named("layer3.1", "/objective/0/layers/0/0")
    assert caught.value.errors[0].pointer == "/objective/0/layers/0/0"


def test_a_layer_that_is_not_called_is_told_so() -> None:
    # Given a network with a layer that it never calls / When that is named / Then
    module = Strided(2, 1)
    module.add_module("spare", nn.Conv2d(3, 3, 1))
    with pytest.raises(NoLayerMatches, match="The student gives out no features at spare"):
        Side(candidate(module.eval()), role="student").named("spare", "/x")


def test_what_is_kept_is_what_the_layer_gave_out() -> None:
    # Given a layer behind which an activation computes in place
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True)).eval()
    x = torch.randn(1, 3, 4, 4)
    expected = module[0](x)
    # When the network answers / Then the layer's own answer is kept, with its gradient, and only inside of the block
    with tapped(module, ["0"]) as taps:
        module(x)
    seen = taps.take()["0"]
    assert torch.equal(seen, expected)
    assert seen.requires_grad
    module(x)
    assert taps.take() == {}


def test_looking_changes_nothing() -> None:
    # Given a network / When its features are looked at / Then its state is what it was
    made = candidate(build(NETWORK, seed=0).eval())
    before = {name: tensor.clone() for name, tensor in made.module.state_dict().items()}
    features_of(replace(made).module, made.input_shape)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.module.state_dict().items())
