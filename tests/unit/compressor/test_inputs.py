"""What a layer sees, unfolded, times its weight is what it gives out."""

import pytest
import torch
from torch import Tensor, nn

from compressor.inputs import (
    Seeing,
    drawn,
    ends,
    in_order_of_run,
    input_squares,
    places_drawn,
    places_in,
    sees,
    unfolded,
)

LAYERS = {
    "plain": nn.Conv2d(6, 8, 3, bias=False),
    "padded, strided": nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=False),
    "dilated": nn.Conv2d(6, 8, 3, dilation=2, bias=False),
    "grouped": nn.Conv2d(6, 8, 3, groups=2, bias=False),
    "depthwise": nn.Conv2d(6, 6, 3, groups=6, bias=False),
    "1x1": nn.Conv2d(6, 8, 1, bias=False),
}


def image(count: int = 3) -> Tensor:
    return torch.randn(count, 6, 9, 11, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LAYERS)
def test_a_convolution_is_a_product_with_what_it_sees(name: str) -> None:
    # Given a convolution / When its unfolded input is multiplied with its weight, group by group
    layer, x = LAYERS[name], image()
    columns = unfolded(layer, x)
    weight = layer.weight.view(layer.groups, -1, columns.shape[1])
    product = (weight @ columns).reshape(layer.out_channels, len(x), -1).transpose(0, 1)
    # Then that is its output
    assert torch.allclose(product, layer(x).flatten(2), atol=1e-5)


def test_a_linear_layer_sees_every_position() -> None:
    layer, x = nn.Linear(6, 4, bias=False), torch.randn(2, 5, 6)
    assert torch.allclose((layer.weight @ unfolded(layer, x)[0]).T.view(2, 5, 4), layer(x), atol=1e-6)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 4, 3)
        self.second = nn.Conv2d(4, 8, 1)
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).mean((2, 3))


def test_squares_are_sums_over_all_batches() -> None:
    # Given a network and two batches / When what its second layer sees is gathered
    network, batches = Network(), [image(2), image(3)]
    seen = torch.cat([network.first(x).relu().transpose(0, 1).flatten(1) for x in batches], 1)
    # Then the squares are those over all positions of all images
    layers: dict[str, Seeing] = {"second": network.second, "idle": network.idle}
    squares = input_squares(network, layers, batches)
    assert torch.allclose(squares["second"][0], seen.double().square().sum(1), rtol=1e-4)
    # And a layer that is never run has none
    assert set(squares) == {"second"}


class Attentive(nn.Module):
    """Attention, which computes its `out_proj` itself, between two layers; the first has one that is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.blocks = nn.ModuleList([nn.MultiheadAttention(6, 2, batch_first=True)])
        self.stem = nn.Conv2d(6, 6, 3)
        self.stem.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks[0](x, x, x)[0].mean(1))


def test_a_layer_that_no_hook_sees_runs_with_the_module_that_has_it() -> None:
    # Given attention between two layers / When layers are ordered as they run
    network, names = Attentive(), ["stem.idle", "head", "blocks.0", "blocks.0.out_proj", "stem"]
    order = in_order_of_run(network, names, (6, 9, 11))
    # Then its projection comes with it, and behind all what is not run
    assert order == ["stem", "blocks.0", "blocks.0.out_proj", "head", "stem.idle"]
    # And the network ends with its head
    assert ends(network, (6, 9, 11)) == {"stem", "head"}


@pytest.mark.parametrize(
    ("layer", "can"),
    [
        (nn.Linear(2, 2), True),
        (nn.Conv2d(2, 2, 1), True),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(2, 2, 3, padding="same"), False),
        (nn.Conv1d(2, 2, 1), False),
        (nn.LSTM(2, 2), False),
    ],
)
def test_some_layers_cannot_be_unfolded(layer: nn.Module, can: bool) -> None:
    assert sees(layer) is can


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 2),
        nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(2, 1)),
        nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2),
    ],
    ids=str,
)
def test_drawn_columns_are_unfolded_ones_each_once(layer: nn.Linear | nn.Conv2d) -> None:
    # Given an input / When more columns are drawn than there are
    x = torch.randn(2, 6, 5) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 9, 8)
    (columns,) = unfolded(layer, x)
    places = places_drawn(places_in(layer, x), 1000, torch.Generator().manual_seed(0))
    (everything,) = drawn(layer, x, places)
    # Then each is there once, in another order; and of fewer each is one of them
    distances = torch.cdist(everything.T, columns.T)
    assert everything.shape == columns.shape
    assert sorted(distances.argmin(1).tolist()) == list(range(columns.shape[1]))
    (some,) = drawn(layer, x, places[:3])
    assert some.shape == (columns.shape[0], 3)
    assert torch.equal(some, everything[:, :3])


@pytest.mark.parametrize("name", LAYERS)
def test_columns_at_places_are_those_of_the_groups(name: str) -> None:
    # Given a convolution / When columns at some places are taken / Then they are the unfolded ones there
    layer, x = LAYERS[name], image()
    places = torch.tensor([5, 0, 17])
    assert torch.equal(drawn(layer, x, places), unfolded(layer, x)[:, :, places])
