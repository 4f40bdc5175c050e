"""Blended images have blended labels, by the share of each."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compressor.data.images import Batch
from compressor.training.mixing import mixed


def batch(count: int = 8) -> Batch:
    """Images of which each is a constant of its own, so that what is in a blend can be read off."""
    values = torch.arange(1.0, count + 1)
    return Batch(values.view(-1, 1, 1, 1).expand(-1, 3, 12, 10).clone(), torch.arange(count), torch.arange(count))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_shared_as_pixels_are(kind: str) -> None:
    # Given images of one colour each, blended many times over
    for seed in range(30):
        torch.manual_seed(seed)
        plain = batch()
        blend = mixed(plain, kind, classes=8)
        # Then the mean of each is that of the labels' colours, weighted by their shares
        assert blend.soft is not None
        assert torch.allclose(blend.soft.sum(1), torch.ones(8))
        expected = blend.soft @ torch.arange(1.0, 9.0)
        assert torch.allclose(blend.x.mean((1, 2, 3)), expected, atol=1e-4)
        # And the labels and places are still known
        assert torch.equal(blend.y, plain.y)
        assert torch.equal(blend.index, plain.index)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_others_see_the_same_blend_in_their_size(kind: str) -> None:
    # Given images that others see three times as large
    torch.manual_seed(0)
    x = torch.rand(8, 3, 12, 10)
    seen = replace(batch(), x=x, others=lambda: (larger(x),))
    # When they are blended, time and again / Then others see the same blends, three times as large
    for seed in range(10):
        torch.manual_seed(seed)
        blend = mixed(seen, kind, classes=8)
        assert torch.equal(blend.others()[0], larger(blend.x))


def larger(x: Tensor) -> Tensor:
    return x.repeat_interleave(3, 2).repeat_interleave(3, 3)


def test_cutmix_pastes_one_rectangle() -> None:
    # Given a blend of which a part is another image
    torch.manual_seed(3)
    blend = mixed(batch(), "cutmix", classes=8)
    foreign = blend.x[:, 0] != torch.arange(1.0, 9.0).view(-1, 1, 1)
    pasted = foreign[foreign.flatten(1).any(1)][0]
    # Then that part is a rectangle
    rows, columns = pasted.any(1), pasted.any(0)
    assert int(pasted.sum()) == int(rows.sum()) * int(columns.sum())
