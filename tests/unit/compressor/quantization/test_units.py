"""Units: where networks fall in two."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from compressor.models.torchvision_ops import torchvision
from compressor.quantization.graph import aten, capture
from compressor.quantization.products import products
from compressor.quantization.units import units
from tests.unit.compressor.networks import candidate_of, gated, inputs_for, named, residual, unusual


def transformer() -> Any:
    return candidate_of(
        torchvision().models.VisionTransformer(
            32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=4
        ),
        size=32,
    )


def count(unit: GraphModule) -> int:
    """How many convolutions and linear layers a unit has."""
    return sum(node.target in (aten.conv2d.default, aten.linear.default) for node in unit.graph.nodes)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        # The stem, two blocks at each of four sizes, three of which have a layer in their shortcut, and the head.
        (lambda: named("resnet18", size=32), [1, 2, 2, 3, 2, 3, 2, 3, 2, 1]),
        (residual, [1, 2, 1]),
        # The gate is a shortcut of two layers.
        (gated, [1, 2, 1, 1]),
        # A fixed filter, and a layer that does not see the image, are no products.
        (unusual, [1, 2, 3, 1]),
        # Patches; attention and the layers behind it, twice; the head.
        (transformer, [1, 2, 2, 2, 2, 1]),
    ],
    ids=["resnet18", "residual", "gated", "unusual", "transformer"],
)
def test_units_are_the_residual_blocks_and_the_layers_between_them(network: Any, expected: list[int]) -> None:
    # Given a network / When it is taken apart
    candidate = network()
    graph = capture(candidate.module, candidate.input_shape)
    found = units(graph, [product.node for product in products(graph)])
    # Then each block is a unit, and each layer outside of one
    assert [count(unit) for unit in found] == expected
    # And one behind the other they compute what the network computes, over the same parameters
    x = inputs_for(candidate, 3)
    with torch.no_grad():
        expected_answers = candidate.module(x)
        assert torch.allclose(
            nn.Sequential(*found)(x), expected_answers, atol=1e-5 * float(expected_answers.abs().max())
        )
    assert {id(p) for unit in found for p in unit.parameters()} <= {id(p) for p in candidate.module.parameters()}
