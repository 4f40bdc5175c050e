"""Networks by name."""

import pytest
import torch

from compressor.models.architectures import build, names, width_of_logits
from compressor.models.source import ModelSource, read_candidate
from contract.failures import ClassesMismatch, InvalidArchitecture
from contract.model import Architecture, ModelFormat, Preprocessing

SMALL = [
    "alexnet",
    "googlenet",
    "inception_v3",
    "densenet121",
    "efficientnet_b0",
    "swin_t",
    "convnext_tiny",
    "mnasnet0_5",
]


@pytest.mark.parametrize("name", SMALL)
def test_networks_answer_with_logits_also_while_they_train(name: str) -> None:
    # Given a network / When it answers in training mode / Then these are logits, without auxiliary heads
    module = build(Architecture(name=name, options={"num_classes": 7})).train()
    side = 96 if name in ("inception_v3", "alexnet") else 64
    assert module(torch.randn(2, 3, side, side)).shape == (2, 7)


def test_the_same_seed_gives_the_same_weights() -> None:
    # Given one architecture / When it is built with a seed twice and with another
    first, again, other = (build(Architecture(name="squeezenet1_1"), seed=seed) for seed in (1, 1, 2))
    # Then the same seed gives the same weights
    assert torch.equal(first.features[0].weight, again.features[0].weight)
    assert not torch.equal(first.features[0].weight, other.features[0].weight)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_gray_images_have_one_channel(library: str) -> None:
    # Given a network for gray images / When it is built / Then it takes one channel
    module = build(Architecture(library=library, name="resnet18"), in_channels=1)
    assert width_of_logits(module, (1, 64, 64)) == 1000


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (Architecture(name="resnet81"), "Did you mean resnet18"),
        (Architecture(name="resnet18", options={"colour": "red"}), "colour=red"),
        (Architecture(name="resnet18", options={"num_classes": -3}), "num_classes=-3"),
        (Architecture(name="resnet18", options={"num_classes": 2**33}), "GiB"),
        (Architecture(name="mobilenet_v2", options={"width_mult": 1e6}), "GiB"),
        (Architecture(library="timm", name="resnet18", options={"act_layer": "foo"}), "act_layer=foo"),
        (Architecture(library="timm", name="resnet18", options={"global_pool": "x"}), "global_pool=x"),
        (Architecture(library="timm", name="resnet18", options={"checkpoint_path": "/etc/passwd"}), "is no option"),
        (Architecture(library="timm", name="resnet18", options={"in_chans": 1}), 'channels "gray"'),
        (Architecture(name="resnet18", options={"weights": "DEFAULT"}), "those that are uploaded"),
    ],
)
def test_what_cannot_be_built_says_why(architecture: Architecture, words: str) -> None:
    # Given a wrong name or option / When it is built / Then the failure names it, and no memory was taken
    with pytest.raises(InvalidArchitecture, match=words):
        build(architecture)


def test_inputs_and_classes_that_do_not_fit_are_refused() -> None:
    # Given a model with an input that its network does not take, or with too few names
    tiny = Preprocessing(size=(4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)
    fine = Preprocessing(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)

    def source(preprocessing: Preprocessing, classes: tuple[str, ...] | None) -> ModelSource:
        return ModelSource(
            architecture=Architecture(name="alexnet"),
            format=ModelFormat.PT,
            preprocessing=preprocessing,
            classes=classes,
        )

    # When it is read / Then it is refused by name
    with pytest.raises(InvalidArchitecture, match="3x4x4"):
        read_candidate(source(tiny, None), None, 0)
    with pytest.raises(ClassesMismatch, match="2 classes and has 1000"):
        read_candidate(source(fine, ("a", "b")), None, 0)


def test_every_name_of_torchvision_builds_on_meta_or_for_real() -> None:
    # Given every classification network of torchvision / When it is built on meta / Then only those that compute with
    # their tensors in the constructor refuse
    refused = set()
    for name in names("torchvision"):
        try:
            build(Architecture(name=name), device="meta")
        except InvalidArchitecture:
            refused.add(name)
    assert {name.split("_")[0] for name in refused} <= {"regnet"}
