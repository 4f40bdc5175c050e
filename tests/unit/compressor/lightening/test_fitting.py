"""A layer's weights are those that give, of all, most nearly what the original gives."""

import copy

import pytest
import torch
from torch import Tensor, nn

from compressor.lightening.fitting import fit


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
    found = fit(other, other.second, original, original.second, batches)
    # Then it gives nearly the same, and the error is the one that can be measured
    assert found is not None
    assert found.before > 1
    assert found.after < 1e-3
    with torch.no_grad():
        wanted, given = (torch.cat([network(x) for x in batches]) for network in (original, other))
    measured = float((wanted - given).square().sum() / wanted.square().sum())
    assert measured == pytest.approx(found.after, rel=1e-2)


def test_it_makes_up_for_what_earlier_layers_have_lost() -> None:
    # Given a network whose first layer gives half of what it gave / When the second is fitted
    original, other, batches = two()
    other.load_state_dict(original.state_dict())
    with torch.no_grad():
        other.first.weight.mul_(0.5)
        other.first.bias.mul_(0.5)  # type: ignore[union-attr]
    found = fit(other, other.second, original, original.second, batches)
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
    fit(other, other.second, original, original.second, [torch.zeros(1, 3, 8, 8)])
    assert torch.allclose(other.second.weight, original.second.weight, atol=1e-3)


def test_a_layer_that_is_not_run_is_left_as_it_is() -> None:
    original, other, batches = two()
    assert fit(other, other.idle, original, original.idle, batches) is None
