"""Another architecture in the model's place: named or chosen by a budget, fitted to its images, never from nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.counting import count_macs, count_parameters
from compressor.methods import replace_architecture
from compressor.models import files
from compressor.models.architectures import build
from contract.architecture import catalogue
from contract.failures import ClassesMismatch, Failure, NothingFits
from contract.methods.replace import Budget, ReplaceArchitecture
from contract.model import Architecture, Preprocessing
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK


def candidate(channels: str = "rgb", *, side: int = 64) -> Candidate:
    statistics = (0.5,) if channels == "gray" else (0.5, 0.5, 0.5)
    preprocessing = Preprocessing.model_validate(
        {"size": (side, side), "mean": statistics, "std": statistics, "channels": channels}
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
    assert dict(after.masks) == {}
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


@pytest.mark.parametrize(
    ("budget", "side"),
    [
        (Budget(max_parameters=1_500_000), 32),
        (Budget(max_size_bytes=7_000_000, max_macs=20_000_000), 64),
    ],
    ids=str,
)
def test_the_most_accurate_one_within_the_budget_is_chosen(budget: Budget, side: int, tmp_path: Path) -> None:
    # Given a budget / When an architecture is chosen by it
    notes: dict[str, Json] = {}
    params = ReplaceArchitecture(budget=budget, initialize="random")
    after = replace_architecture.apply(candidate(side=side), params, Context(seed=5, record=notes.__setitem__))
    # Then it keeps to the budget when it is counted again, with its own head and stem
    chosen: Any = notes["chosen"]
    runners_up: Any = notes["runners_up"]
    assert after.architecture.name == chosen["name"]
    assert count_parameters(after.module) == chosen["parameters"]
    assert count_macs(after.module, after.input_shape).total == chosen["macs"]
    assert chosen["parameters"] <= (budget.max_parameters or chosen["parameters"])
    assert chosen["macs"] <= (budget.max_macs or chosen["macs"])
    # And its file has the bytes that were told
    save_file(after.module.state_dict(), tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_size == chosen["size_bytes"]
    assert chosen["size_bytes"] <= (budget.max_size_bytes or chosen["size_bytes"])
    # And whatever is more accurate was looked at and is out of the question
    accuracy = {e.name: e.published_accuracy for e in catalogue() if e.published_accuracy is not None}
    better = {name for name, value in accuracy.items() if value > chosen["published_accuracy"]}
    refused: Any = [notes["too_costly"], notes["not_for_the_input"]]
    assert {name for names in refused for name in names} == better
    order = [accuracy[one["name"]] for one in (chosen, *runners_up)]
    assert order == sorted(order, reverse=True)
    # And it is said in words why it is this one, and what the next better one would take
    why: Any = notes["why"]
    assert f"{chosen['name']} ({chosen['published_accuracy']:.1%}) is the most accurate" in why
    too_costly: Any = notes["too_costly"]
    assert f"The next more accurate, {min(too_costly, key=accuracy.__getitem__)}" in why
    assert float(why.rpartition(" times")[0].rpartition(" ")[2]) > 1


def test_a_budget_that_nothing_fits_names_what_comes_closest() -> None:
    # Given a budget below every architecture / When it is looked at before the work
    params = ReplaceArchitecture(budget=Budget(max_parameters=100_000))
    # Then the failure names the nearest ones, and by how much they miss it
    with pytest.raises(
        NothingFits, match=r"Closest: shufflenet_v2_x0_5 with 345,892 parameters.*3\.46 times"
    ) as caught:
        replace_architecture.preflight(candidate(), params)
    assert caught.value.errors[0].pointer == "/budget"


@pytest.mark.parametrize(
    ("name", "side", "changed"),
    [
        ("resnet18", 32, ["conv1", "maxpool"]),
        ("resnet18", 64, ["conv1"]),
        ("resnet18", 96, []),
        ("mobilenet_v3_small", 32, ["features.0.0", "features.1.block.0.0"]),
        ("regnet_y_400mf", 32, ["stem.0", "trunk_output.block1.block1-0.proj.0", "trunk_output.block1.block1-0.f.b.0"]),
    ],
)
def test_small_images_keep_their_positions(name: str, side: int, changed: list[str], tmp_path: Path) -> None:
    # Given images of some size / When an architecture for large ones takes the model's place
    notes: dict[str, Json] = {}
    params = ReplaceArchitecture(architecture=Architecture(name=name))
    after = replace_architecture.apply(candidate(side=side), params, Context(record=notes.__setitem__))
    # Then its first strides are gone where the images are small, and the smallest map has 4x4 positions
    assert notes["stem"] == changed
    assert notes["smallest_map"] == (4 if changed else side // 32)
    # And it is rebuilt so from its file
    files.write(after, tmp_path)
    with torch.no_grad():
        assert torch.equal(files.read(tmp_path).module(x := torch.rand(2, 3, side, side)), after.module(x))


def test_a_stem_can_stay_as_the_library_builds_it() -> None:
    # Given small images / When the stem shall stay / Then nothing is edited
    params = ReplaceArchitecture(architecture=Architecture(name="resnet18"), stem="keep")
    assert replace_architecture.apply(candidate(side=32), params, Context()).edits == ()


@pytest.mark.parametrize("initialize", ["original", "random"])
def test_a_smaller_network_of_the_family_begins_with_the_layers_that_both_have(initialize: str) -> None:
    # Given a ResNet-34 / When a ResNet-18 takes its place
    big = Architecture(name="resnet34", options={"num_classes": 4})
    before = Candidate(
        module=build(big, seed=3).eval(), architecture=big, preprocessing=candidate().preprocessing, num_classes=4
    )
    notes: dict[str, Json] = {}
    params = ReplaceArchitecture.model_validate({"architecture": {"name": "resnet18"}, "initialize": initialize})
    after = replace_architecture.apply(before, params, Context(seed=1, record=notes.__setitem__))
    # Then its layers are those of the same name, where that was asked for, and the report counts them
    ours, theirs = after.module.state_dict(), before.module.state_dict()
    same = {name for name in ours if torch.equal(ours[name], theirs[name])}
    if initialize == "original":
        assert same == set(ours)
        count = count_parameters(after.module)
        assert notes["taken_from_original"] == {
            "tensors": len(ours), "parameters": count, "of_parameters": count,
        }  # fmt: skip
    else:
        assert "fc.weight" not in same
        assert "taken_from_original" not in notes


def test_networks_of_different_families_share_nothing() -> None:
    # Given a MobileNetV2, whose first convolution has the name and the shape of EfficientNet's
    other = Architecture(name="mobilenet_v2", options={"num_classes": 4})
    before = Candidate(
        module=build(other, seed=3).eval(), architecture=other, preprocessing=candidate().preprocessing, num_classes=4
    )
    notes: dict[str, Json] = {}
    params = ReplaceArchitecture(architecture=Architecture(name="efficientnet_b0"))
    # When the one takes the other's place / Then nothing is taken, and the report says so
    after = replace_architecture.apply(before, params, Context(seed=1, record=notes.__setitem__))
    assert notes["taken_from_original"] == {
        "tensors": 0, "parameters": 0, "of_parameters": count_parameters(after.module),
    }  # fmt: skip
