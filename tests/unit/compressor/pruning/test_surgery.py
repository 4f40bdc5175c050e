"""What channels are worth where others make up for them, by formulas of their own."""

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.curvature.moments import gathered
from compressor.curvature.stakes import stakes
from compressor.data.images import Images
from compressor.methods import prune_channels
from compressor.pruning import surgery
from compressor.pruning.gates import cost_of_parts, derivatives_by_gates
from compressor.pruning.surgery import Surgeon
from contract.methods.prune import PruneChannels
from tests.unit.compressor.networks import candidate_of

CHANNELS = 12


class Forked(nn.Module):
    """Channels that a convolution takes, and a linear layer behind a flattening."""

    def __init__(self, *, groups: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.inner = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=groups)
        self.head = nn.Linear(CHANNELS * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x).relu()
        answer: Tensor = self.head(nn.functional.adaptive_avg_pool2d(first + self.inner(first).relu(), 2).flatten(1))
        return answer


def forked(*, groups: int = 1) -> Forked:
    torch.manual_seed(0)
    return Forked(groups=groups)


def noise(count: int = 64) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def surgeon(network: Forked) -> Surgeon:
    return Surgeon.of(network, lambda: noise().split(8), seed=0)


def taken(network: Forked) -> list[tuple[nn.Module, Tensor]]:
    return [(network.inner, torch.arange(CHANNELS)), (network.head, torch.arange(CHANNELS * 4))]


def known(network: Forked) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Weight, C and G of both layers."""
    layers = {"inner": network.inner, "head": network.head}
    seen = gathered(network, layers, noise().split(8), seed=0)
    found = stakes(network, layers, noise().split(8), seed=0)
    weights = {name: layer.weight.detach().flatten(1).double() for name, layer in layers.items()}
    return [(weights[name], seen[name].moments().covariance.double(), found[name].double()) for name in layers]


def lost(weight: Tensor, c: Tensor, g: Tensor, gone: list[int]) -> float:
    """What a layer loses without some channels, and with the best weights on the others, by Schur's complement."""
    away = torch.zeros(CHANNELS, weight.shape[1] // CHANNELS, dtype=torch.bool)
    away[gone] = True
    s, r = away.flatten(), ~away.flatten()
    rest = c[s][:, s] - c[s][:, r] @ torch.linalg.solve(c[r][:, r], c[r][:, s])
    return float((g @ weight[:, s] @ rest).mul(weight[:, s]).sum()) / 2


@pytest.mark.parametrize("at_once", [1, 5, 32])
def test_each_is_worth_what_is_lost_with_it_behind_all_that_are_worth_less(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given channels that two layers take / When they are taken out in turn
    monkeypatch.setattr(surgery, "_AT_ONCE", at_once)
    network = forked()
    found = surgeon(network).worth(taken(network), CHANNELS)
    assert found is not None
    # Then it is always the one that costs least, and costs what the layers lose, and no less than any before
    gone: list[int] = []
    layers, most, before = known(network), 0.0, 0.0
    for _ in range(CHANNELS):
        losses = {one: sum(lost(*layer, [*gone, one]) for layer in layers) for one in set(range(CHANNELS)) - {*gone}}
        least = min(losses, key=losses.__getitem__)
        gone.append(least)
        most, before = max(most, losses[least] - before), losses[least]
        assert float(found[least]) == pytest.approx(most, rel=1e-4)


@pytest.mark.parametrize(("importance", "goes"), [("obs", True), ("fisher", False), ("l2", False)])
def test_what_is_there_twice_goes_once(importance: str, goes: bool) -> None:
    # Given a network in which one strong channel is another one twice over
    network = forked()
    with torch.no_grad():
        for layer in (network.stem, network.inner):
            layer.weight[5] *= 2
            layer.weight[7], layer.bias[7] = 2 * layer.weight[5], 2 * layer.bias[5]  # type: ignore[index]
    before = candidate_of(network, size=6, num_classes=3)
    # When one channel goes
    gone = set(range(CHANNELS)) - set(filters_left(before, importance))
    # Then it is one of the two, if it is asked what others can make up for
    assert len(gone) == 1
    assert (gone <= {5, 7}) == goes


def filters_left(before: Candidate, importance: str) -> list[int]:
    """Numbers of the filters of the first layer that are left when one of them goes."""
    images = Images(noise(), torch.full((64,), -1), before.preprocessing)
    params = PruneChannels.model_validate(
        {"ratio": 1 / CHANNELS, "round_to": 1, "importance": importance, "include": ["stem", "inner"]}
    )
    after = prune_channels.apply(before.copied(), params, Context(calibration=images)).module
    filters = before.module.get_parameter("stem.weight")
    return [int((filters - one).abs().sum((1, 2, 3)).argmin()) for one in after.get_parameter("stem.weight")]


def test_a_layer_that_cannot_be_fitted_is_asked_by_gates() -> None:
    # Given channels that a convolution in groups takes, and nothing else / When it is asked what they are worth
    network = forked(groups=2)
    inputs = torch.arange(CHANNELS)
    found = surgeon(network).worth([(network.inner, inputs)], CHANNELS)
    # Then it is what gates say
    derivatives = derivatives_by_gates(network, noise().split(8), seed=0)[network.inner]
    assert found is not None
    assert torch.allclose(found, cost_of_parts([derivatives], CHANNELS))


class Named(nn.Linear):
    """A linear layer by another name, as torch's attention has one."""


def test_a_layer_that_only_bears_another_name_is_fitted_too() -> None:
    # Given the same network twice, once with a layer that bears another name
    plain, named = forked(), forked()
    named.head.__class__ = Named
    # When both are asked / Then they say the same
    found, other = (surgeon(network).worth(taken(network), CHANNELS) for network in (plain, named))
    assert found is not None
    assert other is not None
    assert torch.equal(found, other)


def test_nothing_is_said_where_no_layer_takes_them() -> None:
    assert surgeon(forked()).worth([(nn.Identity(), torch.arange(CHANNELS))], CHANNELS) is None
