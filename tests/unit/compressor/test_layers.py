"""Which layers patterns mean."""

import pytest
from torch import nn

from compressor.layers import matching, weight_names, weighted_modules
from contract.failures import NoLayerMatches

NAMES = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer2.0.conv1", "fc"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*"], [], NAMES),
        (["conv1"], [], ["conv1"]),
        (["*.conv1"], [], ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"]),
        (["layer1.*.conv1"], [], ["layer1.0.conv1", "layer1.1.conv1"]),
        (["layer?.0.*"], [], ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1"]),
        # A block's name means what is in it.
        (["layer1"], ["layer1.0"], ["layer1.1.conv1"]),
        (["*"], ["layer*", "fc"], ["conv1"]),
    ],
)
def test_patterns_are_globs_over_names(include: list[str], exclude: list[str], expected: list[str]) -> None:
    # Given, when, then: the names that the patterns mean, in the network's order
    assert matching(NAMES, include=include, exclude=exclude) == expected


def test_a_pattern_that_means_nothing_tells_the_nearest_names() -> None:
    # Given, when: a misspelt name
    with pytest.raises(NoLayerMatches) as failure:
        matching(NAMES, include=["cnv1"], exclude=[])

    # Then: the right one is in the sentence, and the pointer says where it stands
    assert "Near to it: conv1" in failure.value.detail
    assert failure.value.errors[0].pointer == "/include"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["", "fc"], "There are fc."),
        (NAMES, "There are conv1, layer1.0.conv1, layer1.0.conv2, layer1.1.conv1 and others."),
    ],
    ids=["all of them", "some"],
)
def test_a_pattern_near_to_no_name_tells_some_that_there_are(names: list[str], told: str) -> None:
    # Given, when: a name unlike any
    with pytest.raises(NoLayerMatches) as failure:
        matching(names, include=["xyz"], exclude=[])

    # Then: others are told, and that there are more only where there are
    assert told in failure.value.detail


def test_exclude_can_leave_nothing() -> None:
    # Given, when, then: all that is included is excluded
    with pytest.raises(NoLayerMatches, match="that exclude leaves"):
        matching(NAMES, include=["layer1"], exclude=["*conv?"])


def test_weights_are_matrices_and_kernels() -> None:
    # Given: layers of every kind
    module = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "up": nn.ConvTranspose2d(4, 4, 2),
            "attention": nn.MultiheadAttention(4, 2),
            "recurrent": nn.LSTM(4, 4),
            "embedding": nn.Embedding(3, 4),
        }
    )

    # When: their weights are asked for
    found = {name: list(weight_names(part)) for name, part in weighted_modules(module).items()}

    # Then: normalization, biases and embeddings are none
    assert found == {
        "conv": ["weight"],
        "up": ["weight"],
        "attention": ["in_proj_weight"],
        "attention.out_proj": ["weight"],
        "recurrent": ["weight_ih_l0", "weight_hh_l0"],
    }
