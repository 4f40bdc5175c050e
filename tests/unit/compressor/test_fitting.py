"""A layer's weights are those that give, of all, most nearly what the original gives."""

import copy

import pytest
import torch
from torch import Tensor, nn

from compressor.fitting import fit
from compressor.outcomes import Aim


class Two(nn.Module):
    """Two convolutions, and one that is never run."""

    def __init__(self, *, bias: bool, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, padding=1, bias=bias, groups=groups)
        self.idle = nn.Conv2d(4, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 6, H, W)."""
        return self.second(self.first(x).relu())


def two(*, bias: bool = True, groups: int = 1) -> tuple[Two, Two, list[Tensor]]:
    """A network, the same with other weights in the second layer, and images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = Two(bias=bias, groups=groups)
        other = copy.deepcopy(original)
        other.second = nn.Conv2d(4, 6, 3, padding=1, bias=bias, groups=groups)
        return original, other, [torch.randn(16, 3, 8, 8) for _ in range(3)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_of_the_same_form_learns_what_the_original_gives(bias: bool, groups: int) -> None:
    # Given a layer with weights that have nothing to do with the original's / When it is fitted
    original, other, batches = two(bias=bias, groups=groups)
    found = fit(other, other.second, Aim(original, original.second), batches)
    # Then it gives nearly the same, and the error is the one that can be measured
    assert found is not None
    assert found.before > 1
    assert found.after < 1e-3
    with torch.no_grad():
        wanted, given = (torch.cat([network(x) for x in batches]) for network in (original, other))
    measured = float((wanted - given).square().sum() / wanted.square().sum())
    assert measured == pytest.approx(found.after, rel=0.1)


def test_it_aims_at_some_outputs_where_others_have_gone() -> None:
    # Given a layer that still has three of six outputs, with weights of its own / When it is fitted to those three
    original, other, batches = two()
    other.second = nn.Conv2d(4, 3, 3, padding=1)
    left = torch.tensor([0, 3, 4])
    found = fit(other, other.second, Aim(original, original.second, left), batches)
    # Then it gives these
    assert found is not None
    assert found.after < 1e-3
    with torch.no_grad():
        assert torch.allclose(other(batches[0]), original(batches[0])[:, left], atol=0.05)


@pytest.mark.parametrize("tokens", [(), (7,)])
def test_a_linear_layer_is_fitted_alike(tokens: tuple[int, ...]) -> None:
    # Given a linear layer over vectors or over sequences of them, and another in its place / When that is fitted
    original, other = nn.Sequential(nn.Linear(6, 4)), nn.Sequential(nn.Linear(6, 4))
    batches = [torch.randn(64, *tokens, 6) for _ in range(3)]
    found = fit(other, other[0], Aim(original, original[0]), batches)  # type: ignore[arg-type]
    # Then it gives nearly the same
    assert found is not None
    assert found.after < 1e-2 < found.before
    assert torch.allclose(other[0].weight, original[0].weight, atol=0.05)  # type: ignore[arg-type]


def test_masked_weights_stay_zero_and_the_others_make_up_for_them() -> None:
    # Given a layer of which half of the weights are pruned
    original, other, batches = two()
    other.load_state_dict(original.state_dict())
    kept = torch.rand(other.second.weight.shape) < 0.5
    with torch.no_grad():
        other.second.weight.mul_(kept)
    # When it is fitted
    found = fit(other, other.second, Aim(original, original.second), batches, kept=kept)
    # Then what is pruned is zero, and the error has fallen
    assert found is not None
    assert not other.second.weight[~kept].any()
    assert found.after < 0.8 * found.before


def test_it_makes_up_for_what_earlier_layers_have_lost() -> None:
    # Given a network whose first layer gives half of what it gave / When the second is fitted
    original, other, batches = two()
    other.load_state_dict(original.state_dict())
    with torch.no_grad():
        other.first.weight.mul_(0.5)
        other.first.bias.mul_(0.5)  # type: ignore[union-attr]
    found = fit(other, other.second, Aim(original, original.second), batches)
    # Then it takes twice as much of it
    assert found is not None
    assert found.before > 0.1
    assert found.after < 1e-3
    assert torch.allclose(other.second.weight, 2 * original.second.weight, atol=0.02)


def test_few_images_change_little_of_what_they_do_not_show() -> None:
    # Given the original's own weights, and one image without anything in it
    original, other, _ = two()
    other.load_state_dict(original.state_dict())
    # When they are fitted / Then they stay
    fit(other, other.second, Aim(original, original.second), [torch.zeros(1, 3, 8, 8)])
    assert torch.allclose(other.second.weight, original.second.weight, atol=1e-3)


def test_a_layer_that_is_not_run_is_left_as_it_is() -> None:
    original, other, batches = two()
    assert fit(other, other.idle, Aim(original, original.idle), batches) is None
