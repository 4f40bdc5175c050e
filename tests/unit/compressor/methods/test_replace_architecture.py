"""Another architecture in the model's place: its input, its classes, seeded weights."""

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.methods import replace_architecture
from compressor.models.architectures import build
from contract.failures import ClassesMismatch, Failure
from contract.methods.replace import ReplaceArchitecture
from contract.model import Architecture, Preprocessing
from tests.unit.compressor.small_jobs import NETWORK


def candidate(channels: str = "rgb") -> Candidate:
    statistics = (0.5,) if channels == "gray" else (0.5, 0.5, 0.5)
    preprocessing = Preprocessing.model_validate(
        {"size": (64, 64), "mean": statistics, "std": statistics, "channels": channels}
    )
    return Candidate(
        module=build(NETWORK, in_channels=len(statistics), seed=0).eval(),
        architecture=NETWORK,
        preprocessing=preprocessing,
        num_classes=4,
        classes=("a", "b", "c", "d"),
        masks={"stem.weight": torch.ones(1)},
    )


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"])
@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_light_architectures_take_the_models_place(name: str, channels: str) -> None:
    # Given a model of four classes / When a light architecture takes its place
    before = candidate(channels)
    params = ReplaceArchitecture(architecture=Architecture(name=name))
    after = replace_architecture.apply(before, params, Context(seed=5))
    # Then it takes the same images and tells the same classes apart, and nothing of the old network is left
    with torch.no_grad():
        assert after.module(torch.zeros(1, *before.input_shape)).shape == (1, 4)
    assert (after.classes, after.preprocessing) == (before.classes, before.preprocessing)
    assert after.architecture.name == name
    assert (dict(after.masks), after.edits) == ({}, ())
    assert not after.module.training


def test_the_seed_draws_the_weights() -> None:
    # Given the same seed twice and another once / When weights are drawn
    params = ReplaceArchitecture(architecture=Architecture(name="squeezenet1_1"))
    first, again, other = (
        next(replace_architecture.apply(candidate(), params, Context(seed=seed)).module.parameters())
        for seed in (1, 1, 2)
    )
    # Then
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("architecture", "code"),
    [
        (Architecture(name="mobilenet_v2", options={"num_classes": 7}), ClassesMismatch.code),
        (Architecture(name="mobilenet_v2", options={"no_such_option": 1}), "invalid_architecture"),
        (Architecture(name="vit_b_16"), "invalid_architecture"),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_what_cannot_take_its_place_is_refused_before_the_work(architecture: Architecture, code: str) -> None:
    # Given an architecture with other classes, with an unknown option, or for another size of images
    # When it is looked at / Then it is refused by name
    with pytest.raises(Failure) as caught:
        replace_architecture.preflight(candidate(), ReplaceArchitecture(architecture=architecture))
    assert caught.value.code == code
