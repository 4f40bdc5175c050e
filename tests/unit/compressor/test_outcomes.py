"""What layers of a changed network see, and what they shall give."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.inputs import damped
from compressor.outcomes import Aim, Outcome, PlainAim, outcome, rows, set_rows


class Padded(nn.Conv2d):
    """Pads what it sees by itself, as timm's layers for TensorFlow's weights do."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H, W)."""
        return super().forward(F.pad(x, (1, 1, 1, 1)))


class Two(nn.Module):
    """Two convolutions, of which the second is looked at, and a layer that is never run."""

    def __init__(self, *, bias: bool = True, groups: int = 1, kind: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = kind(4, 6, 3, bias=bias, groups=groups)
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 6, H, W)."""
        return self.second(self.first(x).relu())


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batches() -> list[Tensor]:
    return [torch.randn(16, 3, 8, 8) for _ in range(3)]


def worn(network: Two) -> Two:
    """The same with a first layer that has lost a good deal."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.first.weight.mul_(torch.rand_like(other.first.weight) > 0.5)
    return other


def seen_by(network: Two, original: Two, images: list[Tensor], *, aim: type[Aim] = Aim) -> Outcome:
    found = outcome(network, network.second, aim(original, original.second), images)
    assert found is not None
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_where_nothing_has_changed_a_layer_gives_what_it_shall(bias: bool, groups: int) -> None:
    # Given a network beside itself / When its second layer is looked at
    network = Two(bias=bias, groups=groups)
    seen = seen_by(network, network, batches())
    # Then its weight leaves no error, and nothing better is found
    assert seen.error(rows(network.second)) == pytest.approx(0, abs=1e-6)
    free = rows(network.second)[..., : seen.unbiased.xx.shape[2]]
    assert torch.allclose(seen.unbiased.aimed(free, damped(seen.unbiased.xx)), free, atol=1e-5)
    assert torch.allclose(seen.with_best_bias(free), rows(network.second), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_makes_up_for_one_before_it(bias: bool, groups: int) -> None:
    # Given a network whose first layer has lost weights
    original, images = Two(bias=bias, groups=groups), batches()
    other = worn(original)
    with torch.no_grad():
        before = sum(float((other(x) - original(x)).square().sum()) for x in images)
    # When its second is given what it aims at
    seen = seen_by(other, original, images)
    free = seen.unbiased
    aim = free.aimed(rows(other.second)[..., : free.xx.shape[2]], damped(free.xx))
    with torch.no_grad():
        set_rows(other.second, seen.with_best_bias(aim))
        after = sum(float((other(x) - original(x)).square().sum()) for x in images)
        whole = sum(float(original(x).square().sum()) for x in images)
    # Then its outputs are nearer, and as near as is told
    assert after < 0.8 * before
    assert seen.error(rows(other.second)) == pytest.approx(after / whole, rel=0.05)


def test_what_must_stay_zero_does() -> None:
    # Given a layer half of whose weights are cut, behind one that has lost weights
    original, images = Two(bias=False), batches()
    other = worn(original)
    kept = torch.rand(1, 6, 36) > 0.5
    weight = rows(other.second) * kept
    seen = seen_by(other, original, images)
    # When it aims / Then those stay zero, and the others give less of an error than they did
    aim = seen.aimed(weight, damped(seen.xx), kept)
    assert not aim[~kept].any()
    assert seen.error(aim) < 0.9 * seen.error(weight)


def test_the_best_bias_gives_the_mean_that_was_given_before() -> None:
    # Given a layer all of whose weights have gone / When it gets the best bias
    original, images = Two(), batches()
    seen = seen_by(original, original, images)
    found = seen.with_best_bias(torch.zeros(1, 6, 36, dtype=torch.float64))
    # Then that is the mean of what it gave
    mean = torch.cat([original(x).detach() for x in images]).mean((0, 2, 3)).double()
    assert torch.allclose(found[0, :, -1], mean, atol=0.05)


def test_where_nothing_ever_varies_a_layer_stays_as_it_is() -> None:
    # Given images all of one gray, so that a layer sees nothing vary but what rounding makes of it
    network = Two()
    network.first = nn.Conv2d(3, 4, 1)
    seen = seen_by(network, network, [torch.full((16, 3, 8, 8), 0.3)])
    # When it aims / Then its weight is what it was, and its bias too
    weight = rows(network.second)[..., :-1]
    assert torch.equal(seen.unbiased.aimed(weight, damped(seen.unbiased.xx)), weight)
    assert torch.allclose(seen.with_best_bias(weight), rows(network.second), atol=1e-4)


def test_a_layer_that_pads_by_itself_is_looked_at_as_its_weight_goes() -> None:
    # Given such a layer / When only its weight counts
    network = Two(kind=Padded)
    seen = seen_by(network, network, batches(), aim=PlainAim)
    # Then what it sees and what it shall give are of the same places
    assert seen.error(rows(network.second)) == pytest.approx(0, abs=1e-6)


def test_a_layer_that_is_not_run_has_no_outcome() -> None:
    network = Two()
    assert outcome(network, network.idle, Aim(network, network.idle), batches()) is None


def test_what_is_no_number_is_seen() -> None:
    network, images = Two(), batches()
    images[1][0, 0, 0, 0] = torch.nan
    assert not seen_by(network, network, [torch.cat(images)]).finite


class Residual(nn.Module):
    """Two branches that are normalized and added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.short, self.norm = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 6, H, W)."""
        return self.norm(self.second(self.first(x).relu())) + self.short(x)


def test_where_a_branch_ends_a_layer_makes_up_for_the_other() -> None:
    # Given two branches that are added, of which the short one has lost something
    original, images = Residual().eval(), batches()
    other = copy.deepcopy(original)
    with torch.no_grad():
        other.short.weight.mul_(0.8)
        before = sum(float((other(x) - original(x)).square().sum()) for x in images)
    # When the long one's last layer is given what it aims at
    seen = outcome(other, other.second, Aim(original, original.second), images)
    assert seen is not None
    with torch.no_grad():
        set_rows(other.second, seen.aimed(rows(other.second), damped(seen.xx)))
        after = sum(float((other(x) - original(x)).square().sum()) for x in images)
    # Then the sum is nearer to what it was, though that layer had lost nothing
    assert after < 0.6 * before
