"""Penalties shrink as their proximal operators say."""

import pytest
import torch

from compressor.pruning.slices import ChannelSlices, Slice, channel_slices
from compressor.sparsity.proximal import soft_threshold
from tests.unit.compressor.networks import Residual


def test_magnitudes_fall_by_the_threshold_and_no_further_than_zero() -> None:
    tensor = torch.tensor([-2.0, -0.3, 0.0, 0.1, 0.5, 3.0])
    soft_threshold([tensor], 0.3)
    assert torch.allclose(tensor, torch.tensor([-1.7, 0.0, 0.0, 0.0, 0.2, 2.7]))


def test_a_channels_norm_falls_by_the_threshold_times_the_root_of_its_size() -> None:
    # Given channels that two tensors make up, in another order in each
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.Parameter(torch.randn(3, 2, generator=generator))
    second = torch.nn.Parameter(torch.randn(4, 5, generator=generator))
    places = (torch.tensor([0, 1, 2]), torch.tensor([3, 0, 2]))
    group = ChannelSlices((Slice(first, 0, places[0]), Slice(second, 0, places[1])))
    before = [torch.cat([first[a], second[b]]).detach() for a, b in zip(*places, strict=True)]
    untouched = second[1].detach().clone()
    # When they are shrunk
    group.shrink(0.5)
    # Then each is what it was but for its length, which has fallen, and what belongs to no channel stays
    assert group.size == 7
    for old, a, b in zip(before, *places, strict=True):
        new = torch.cat([first[a], second[b]])
        wanted = max(0.0, float(old.norm()) - 0.5 * 7**0.5)
        assert torch.allclose(new, old / old.norm() * wanted, atol=1e-6)
    assert torch.equal(second[1], untouched)


def test_channels_that_a_sum_ties_together_are_one_group() -> None:
    # Given a network whose sum needs the same channels of two branches
    torch.manual_seed(0)
    network = Residual()
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = channel_slices(network, torch.zeros(1, 3, 16, 16), fixed=())
    # When its groups are looked at / Then the stem, the depthwise branch and the projection shrink together
    found = [{names[one.tensor] for one in group.slices} for group in groups]
    tied = {"stem.0.weight", "depthwise.0.weight", "project.0.weight", "stem.1.weight", "project.1.weight"}
    assert any(tied <= group for group in found)
    # And the classifier's outputs do not shrink
    assert not any("head.weight" in group for group in found)


@pytest.mark.parametrize("threshold", [0.0, 1e9])
def test_nothing_or_everything_goes_at_the_ends(threshold: float) -> None:
    tensor = torch.nn.Parameter(torch.ones(2, 3))
    ChannelSlices((Slice(tensor, 0, torch.arange(2)),)).shrink(threshold)
    assert torch.equal(tensor, torch.ones(2, 3) if threshold == 0 else torch.zeros(2, 3))
