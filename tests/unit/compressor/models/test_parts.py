"""Layers told by numbers alone."""

import pytest
import torch
from torch import nn

from compressor.models.parts import built, told

LAYERS = {
    "convolution": (nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), (2, 6, 16, 16)),
    "no bias": (nn.Conv2d(3, 4, 1, bias=False), (2, 3, 5, 5)),
    "dense": (nn.Linear(7, 3), (2, 7)),
    "batch_norm": (nn.BatchNorm2d(5, eps=1e-3, momentum=0.01), (2, 5, 3, 3)),
    "relu6": (nn.ReLU6(), (2, 3)),
    "gelu": (nn.GELU(), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_is_told_can_be_built_again(name: str) -> None:
    # Given a layer
    layer, shape = LAYERS[name]
    part = told(layer)
    assert part is not None
    # When it is built from what is told of it, and gets its weights
    again = built(type(part).model_validate_json(part.model_dump_json()))
    again.load_state_dict(layer.state_dict())
    # Then it computes the same
    x = torch.randn(shape)
    assert torch.equal(again.eval()(x), layer.eval()(x))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.BatchNorm2d(4, affine=False),
        nn.GELU(approximate="tanh"),
        nn.LSTM(3, 4),
        nn.Sequential(nn.ReLU()),
    ],
    ids=str,
)
def test_what_there_are_no_words_for_is_not_told(layer: nn.Module) -> None:
    # Given a layer of which the words would lose something, when it is told, then it is not
    assert told(layer) is None
