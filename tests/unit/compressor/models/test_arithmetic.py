"""Terms that are found by counting at a few sizes are the multiply-accumulates at all others."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.measure.counting import count_macs
from compressor.models.arithmetic import FEWER_CHANNELS, FEWER_CLASSES, NoSum, hold, macs_of_each, terms_of
from compressor.models.sizes import sizes_of
from contract.cost import CHANNELS, CLASSES, Macs, Sizes, Term


class Valid(nn.Module):
    """Kernels without padding, a pool that rounds up, a head at each position."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 7, stride=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.head = nn.Conv2d(4, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.first(x))).mean((2, 3))


class Patches(nn.Module):
    """What networks have that look at patches of 4x4."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 4, stride=4)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, classes)


class Windows(Patches):
    """Linear layers on windows of 7x7, which images are padded to, and attention between all positions."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 7, 0, -height % 7)).flatten(2).transpose(1, 2)
        x = self.mix(x)
        return self.head((x @ x.transpose(1, 2) @ x).mean(1))


class Tokens(Patches):
    """A token more than there are positions, which is no map."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(2).transpose(1, 2)
        return self.head(self.mix(torch.cat([x, x[:, :1]], 1)).mean(1))


def on_meta(kind: type[nn.Module]) -> tuple[nn.Module, nn.Module]:
    with torch.device("meta"):
        return kind(CHANNELS, CLASSES), kind(FEWER_CHANNELS, FEWER_CLASSES)


@pytest.mark.parametrize("kind", [Valid, Windows])
def test_terms_hold_at_other_sizes_channels_and_classes(kind: type[nn.Module]) -> None:
    # Given a network that is counted at a few sizes
    module, fewer = on_meta(kind)
    terms = terms_of(module, fewer, (64, 64), step=1)
    for height, width in [(9, 9), (32, 33), (97, 61), (301, 640)]:
        # When it is counted at others / Then its terms tell the same, for gray images and fewer classes too
        assert terms.at((CHANNELS, height, width), CLASSES) == count_macs(module, (CHANNELS, height, width)).total
        told = terms.at((FEWER_CHANNELS, height, width), FEWER_CLASSES)
        assert told == count_macs(fewer, (FEWER_CHANNELS, height, width)).total


def test_what_is_no_sum_of_terms_is_none() -> None:
    # Given a network whose tokens are no map / When it is counted / Then no terms are made up
    module, fewer = on_meta(Tokens)
    with pytest.raises(NoSum, match="those of no map"):
        terms_of(module, fewer, (64, 64), step=1)
    # And for one size there are some
    alone = terms_of(module, fewer, (64, 64), step=None)
    assert alone.at((CHANNELS, 64, 64), CLASSES) == sum(macs_of_each(module, (CHANNELS, 64, 64)))


def test_terms_of_another_network_do_not_hold() -> None:
    # Given terms, and the same with a multiply-accumulate too many
    module, fewer = on_meta(Valid)
    terms = terms_of(module, fewer, (64, 64), step=1)
    wrong = Macs(per_channel=terms.per_channel, per_class=terms.per_class, others=(*terms.others, Term(1)))
    # When they are held against a count / Then that is seen
    assert hold(terms, module, 40, 90)
    assert not hold(wrong, module, 40, 90)


class Picky(nn.Module):
    """Takes images of some sizes."""

    def __init__(self, taken: Sizes) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, device="meta"))
        self.taken = taken

    def forward(self, x: Tensor) -> Tensor:
        if told := self.taken.refusal(*x.shape[2:]):
            raise ValueError(told)
        return x * self.scale


@pytest.mark.parametrize(
    "taken",
    [Sizes(only=(64, 64)), Sizes(only=(96, 64)), Sizes(least=33), Sizes(least=32, step=16), Sizes(square=True)],
    ids=str,
)
def test_sizes_are_found_by_trying(taken: Sizes) -> None:
    # Given a network that takes some sizes / When it is tried / Then these are what is found
    assert sizes_of(Picky(taken), taken.only or (64, 64)) == taken
