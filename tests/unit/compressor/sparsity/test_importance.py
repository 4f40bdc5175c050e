"""What a weight is worth, against formulas written out."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.sparsity.importance import IMPORTANCES, Look
from compressor.training.layout import channels_last
from tests.unit.compressor.networks import Residual
from tests.unit.compressor.small_jobs import images

DATA = images(40, seed=0)


def look(module: nn.Module, *names: str, seed: int = 0) -> Look:
    layers = {f"{name}.weight": module.get_submodule(name) for name in names}
    weights = {name: module.get_parameter(name) for name in layers}
    return Look(module, weights, layers, torch.Generator().manual_seed(seed), DATA)


def network() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


def test_magnitude_is_the_absolute_value() -> None:
    one = look(network(), "head")
    assert torch.equal(IMPORTANCES["l1"](one)["head.weight"], one.weights["head.weight"].detach().abs())


def test_chance_follows_the_seed_alone() -> None:
    first, again, other = (IMPORTANCES["random"](look(network(), "head", seed=s))["head.weight"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_lamp_is_the_share_of_what_is_no_smaller() -> None:
    # Given a layer / When its scores are compared with the formula, weight by weight
    one = look(network(), "head")
    squares = one.weights["head.weight"].detach().double().square()
    expected = torch.stack([s / squares[squares >= s].sum() for s in squares.flatten()]).view(squares.shape)
    # Then they are equal, and the largest has all of it
    scores = IMPORTANCES["lamp"](one)["head.weight"]
    assert torch.allclose(scores.double(), expected, rtol=1e-5)
    assert float(scores.max()) == 1.0


def test_taylor_is_the_sum_over_batches_of_weight_times_gradient() -> None:
    # Given a network / When the gradients of the labels' loss are taken batch by batch
    module = network()
    weight, expected = module.get_parameter("head.weight"), 0
    for batch in DATA.batches(32):
        module.zero_grad()
        F.cross_entropy(module(batch.x), batch.y).backward()
        assert weight.grad is not None
        expected = expected + (weight.detach() * weight.grad).abs()
    # Then the scores are their sum, and nothing of the network has changed
    assert isinstance(expected, Tensor)
    assert torch.allclose(IMPORTANCES["gradient"](look(module, "head"))["head.weight"], expected, rtol=1e-4, atol=1e-8)
    assert not module.training


@pytest.mark.parametrize("name", ["stem.0", "depthwise.0", "project.0", "head"])
def test_wanda_is_the_weight_times_the_norm_of_its_input(name: str) -> None:
    # Given a layer, and what reaches it
    module = network()
    layer, seen = module.get_submodule(name), []
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for batch in DATA.batches(32):
            module(batch.x)
    handle.remove()
    # When each weight's own inputs are gathered by convolving with that weight alone
    weight = module.get_parameter(f"{name}.weight").detach()
    expected = torch.zeros_like(weight)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in weight.shape)).tolist():
        probe = torch.zeros_like(weight)
        probe[tuple(place)] = 1
        norm = sum(float(_run(layer, x, probe)[:, place[0]].double().square().sum()) for x in seen) ** 0.5
        expected[tuple(place)] = weight[tuple(place)].abs() * norm
    # Then the scores are the weights times their norms
    assert torch.allclose(IMPORTANCES["wanda"](look(module, name))[f"{name}.weight"], expected, rtol=1e-4, atol=1e-6)


def _run(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.linear(x, weight)


def test_a_layer_that_is_not_run_has_no_score() -> None:
    # Given a network with an idle layer
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x.mean((2, 3)))

    # When its inputs are looked at / Then it is left out, and gradients count it as worth nothing
    found: Mapping[str, Tensor] = IMPORTANCES["wanda"](look(Idle(), "used", "idle"))
    assert set(found) == {"used.weight"}
    assert not IMPORTANCES["gradient"](look(Idle(), "used", "idle"))["idle.weight"].any()


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_how_weights_lie_in_memory_means_nothing(importance: str) -> None:
    # Given a network, and the same with its channels last, as in training
    names = ("stem.0", "depthwise.0", "project.0", "head")
    scores, other = (IMPORTANCES[importance](look(module, *names)) for module in (network(), channels_last(network())))
    # Then weights are worth the same
    for name in scores:
        assert torch.allclose(scores[name], other[name], rtol=1e-4, atol=1e-7)
