"""Neighbouring layers that share the spread of their weights."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from compressor.context import Context
from compressor.methods import lighten
from compressor.quantization.equalization import equalize
from compressor.quantization.graph import capture
from compressor.quantization.products import products
from contract.methods.lighten import Lighten
from tests.unit.compressor.networks import answers, candidate_of, inputs_for, with_statistics


class _Chain(nn.Module):
    """Convolutions with and without normalization, depthwise among them, and two linear layers; then traps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU())
        self.pointwise = nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU6())
        self.last = nn.Conv2d(6, 8, 1)
        self.mlp = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = torch.sigmoid(self.last(self.pointwise(self.depthwise(self.stem(x)))))
        return self.mlp(x.mean((2, 3)))


def chain() -> _Chain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = _Chain()
    with torch.no_grad():
        # Channels of very unlike size, as networks with depthwise layers have them.
        module.depthwise[0].weight.mul_(torch.logspace(-2, 2, 8).reshape(-1, 1, 1, 1))
        module.mlp[0].weight.mul_(torch.logspace(-1, 1, 10).reshape(-1, 1))
    with_statistics(module)
    return module


def names_in(graph: GraphModule) -> set[str]:
    return {product.parameter for product in products(graph)}


def ranges(rows: Tensor) -> Tensor:
    return rows.detach().abs().flatten(1).amax(1)


def test_both_sides_have_the_same_ranges_and_the_answers_stay() -> None:
    # Given a network with channels of very unlike size, one of them closed
    module = chain()
    with torch.no_grad():
        module.stem[1].weight[3] = 0
        module.stem[1].bias[3] = 0
    candidate = candidate_of(module, size=16)
    x = inputs_for(candidate)
    before = answers(module, x)
    # When it is equalized
    graph = capture(module, candidate.input_shape)
    layers = equalize(graph, among=names_in(graph))
    # Then each layer behind which nothing but ReLU and pooling stands is, and that before ReLU6 and sigmoid is not
    assert layers == ["stem.0", "depthwise.0", "mlp.0"]
    # And the answers are what they were
    assert torch.allclose(answers(module, x), before, rtol=1e-4, atol=1e-5)
    # And every channel has one range where it is made and where it is read (Nagel et al. 2019, eq. 11)
    folded = ranges(module.stem[0].weight) * (module.stem[1].weight / (module.stem[1].running_var + 1e-5).sqrt()).abs()
    read = ranges(module.depthwise[0].weight)
    alive = folded > 0
    assert int(alive.sum()) == 7
    assert torch.allclose(folded[alive], read[alive], rtol=0.01)
    assert torch.allclose(read[alive], ranges(module.pointwise[0].weight.transpose(0, 1))[alive], rtol=0.01)
    assert torch.allclose(ranges(module.mlp[0].weight), ranges(module.mlp[2].weight.T), rtol=0.01)


def test_layers_share_their_spread_where_a_relu_has_taken_the_place_of_relu6() -> None:
    # Given a network whose one ReLU6 a lighten step has made a ReLU
    asked = Lighten(activations={"relu6": "relu"}, fold_batch_norm=False)
    made = lighten.apply(candidate_of(chain(), size=16), asked, Context())
    # When it is equalized
    graph = capture(made.module, made.input_shape)
    layers = equalize(graph, among=names_in(graph))
    # Then the layer before it is among those that share
    assert layers == ["stem.0", "depthwise.0", "pointwise.0", "mlp.0"]


def test_zeros_stay_and_what_is_not_named_does_too() -> None:
    # Given pruned weights, and a layer in the middle
    module = chain()
    mask = torch.rand(module.mlp[2].weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    with torch.no_grad():
        module.mlp[2].weight.mul_(mask)
    kept = module.depthwise[0].weight.clone()
    # When the network is equalized but for that layer
    graph = capture(module, (3, 16, 16))
    layers = equalize(graph, among=names_in(graph) - {"depthwise.0.weight"})
    # Then neither of its sides was touched, and zeros are zeros
    assert layers == ["mlp.0"]
    assert torch.equal(module.depthwise[0].weight, kept)
    assert torch.equal(module.mlp[2].weight == 0, ~mask)


def test_a_layer_that_is_run_twice_is_left_alone() -> None:
    # Given a layer that reads what it has made
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.relu(self.conv(x))).mean((2, 3))

    # When the network is equalized, then nothing is
    graph = capture(Twice(), (3, 8, 8))
    assert equalize(graph, among=names_in(graph)) == []
