"""Small networks with one odd thing in each: what of them is narrowed, and what is refused."""

import time
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.pruning.channels import Pruning, Target, narrow
from contract.failures import PruningFailed
from contract.methods.prune import PruneChannels
from contract.model import Preprocessing

EXAMPLE = torch.zeros(1, 3, 16, 16)
HALF = Target(None, 0.5)


class Gate(nn.Module):
    """Scales every channel by a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.ones(1, 16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.strength


class Twice(nn.Module):
    """Gives its input out twice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=1)


class Halves(nn.Module):
    """Sends half of the channels through a bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(8, 32, 1), nn.ReLU(inplace=True), nn.Conv2d(32, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        return torch.cat([left, self.branch(right)], dim=1)


class Reshaping(nn.Module):
    """Has a width baked into a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x).view(len(x), 4, 4, *x.shape[2:]).flatten(1, 2)


class SixteenOnly(nn.Module):
    """Takes nothing but 16 channels, and has no children around which to cut."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 16:
            raise ValueError("I want 16 channels")
        return x


def network(*middle: nn.Module, width: int = 16) -> nn.Sequential:
    """A classifier with something after its first convolution (16 channels) that gives out `width` channels."""
    torch.manual_seed(0)
    head = (nn.Conv2d(width, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return nn.Sequential(nn.Conv2d(3, 16, 3), *middle, *head)


def narrowed(module: nn.Module, *, round_to: int = 1) -> nn.Module:
    return narrow(module, Pruning(params=PruneChannels(round_to=round_to), example=EXAMPLE, target=HALF)).module


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in module.parameters() if p.dim() > 1]


HEAD = [(16, 8, 3, 3), (10, 16)]


@pytest.mark.parametrize(
    ("middle", "width", "expected"),
    [
        (nn.Identity(), 16, [(8, 3, 3, 3), *HEAD]),
        (Gate(), 16, [(8, 3, 3, 3), (1, 8, 1, 1), *HEAD]),
        (Twice(), 32, [(8, 3, 3, 3), (16, 16, 3, 3), (10, 16)]),
        (nn.GroupNorm(4, 16), 16, [(8, 3, 3, 3), *HEAD]),
        (nn.Conv2d(16, 16, 3, groups=4), 16, [(8, 3, 3, 3), (8, 2, 3, 3), *HEAD]),
        (nn.Conv2d(16, 16, 3, groups=16), 16, [(8, 3, 3, 3), (8, 1, 3, 3), *HEAD]),
        (nn.ConvTranspose2d(16, 16, 3), 16, [(8, 3, 3, 3), (8, 8, 3, 3), *HEAD]),
        # Two outputs for each input: a group of one input cannot lose it.
        (nn.Conv2d(16, 32, 3, groups=16), 32, [(16, 3, 3, 3), (16, 1, 3, 3), (16, 16, 3, 3), (10, 16)]),
        # What is split or reshaped keeps its widths; what lies within a branch does not.
        (Halves(), 16, [(16, 3, 3, 3), (16, 8, 1, 1), (8, 16, 1, 1), (16, 16, 3, 3), (10, 16)]),
        (Reshaping(), 16, [(16, 3, 3, 3), (16, 16, 1, 1), (16, 16, 3, 3), (10, 16)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_widths_after_removing_half(middle: nn.Module, width: int, expected: list[tuple[int, ...]]) -> None:
    # Given, when: half of the channels of a network with `middle` in it are removed
    after = narrowed(network(middle, width=width))

    # Then: it has these weights, and runs
    assert shapes(after) == expected
    assert after(EXAMPLE).shape == (1, 10)


def test_the_channels_with_the_smallest_weights_go() -> None:
    # Given: a layer of which every other channel is ten times as strong
    module = network()
    module[0].get_parameter("weight").data[::2] *= 10

    # When: half of them are removed
    after = narrowed(module)

    # Then: the strong ones are left, and the network itself is as it was
    assert torch.equal(after[0].weight, module[0].weight[::2])  # type: ignore[index]
    assert module[0].weight.shape == (16, 3, 3, 3)


def test_a_width_that_cannot_be_a_multiple_is_left() -> None:
    # Given, when: 16 channels shall be halved in steps of 16, and 32 too
    after = narrowed(network(), round_to=16)

    # Then: only the 32 can
    assert shapes(after) == [(16, 3, 3, 3), (16, 16, 3, 3), (10, 16)]


def test_what_cannot_be_followed_is_refused_with_the_reason() -> None:
    # Given: a network in which nothing shows that a width matters, until it runs
    module = network(SixteenOnly())

    # When, then: the reason is told
    with pytest.raises(PruningFailed, match="ValueError: I want 16 channels"):
        narrowed(module)


# It may come while the collector calls back (hypothesis listens there), which swallows it with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_network_that_takes_too_long_is_refused() -> None:
    # Given: next to no time
    pruning = Pruning(params=PruneChannels(), example=EXAMPLE, target=HALF)

    # When, then: that is told
    with pytest.raises(PruningFailed, match=r"more than 0\.02 s"):
        narrow(network(*(nn.Conv2d(16, 16, 1) for _ in range(300))), pruning, seconds=0.02)


class Slow(nn.Module):
    """Takes a second and a half for several images."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(15 if len(x) > 1 else 0):
            time.sleep(0.1)
        return x


@pytest.mark.parametrize(
    ("importance", "taker"), [("taylor", nn.Conv2d(16, 16, 1)), ("obs", nn.ConvTranspose2d(16, 16, 1))]
)
def test_looking_at_images_may_take_longer_than_finding_dependencies(
    importance: Literal["taylor", "obs"], taker: nn.Module
) -> None:
    # Given: images that take longer to be looked at than dependencies may take to be found, at once or when it comes to
    # a layer that cannot be fitted
    preprocessing = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    images = Images(torch.zeros(2, 3, 16, 16), torch.zeros(2, dtype=torch.long), preprocessing)
    params = PruneChannels(importance=importance, round_to=1)
    # And: all is loaded that torch loads when it is first needed
    narrowed(network())

    # When: channels go by what images tell of them
    pruning = Pruning(params=params, example=EXAMPLE, target=HALF, images=images)
    after = narrow(network(Slow(), taker), pruning, seconds=1)

    # Then: that is no failure
    assert shapes(after.module) == [(8, 3, 3, 3), (8, 8, 1, 1), *HEAD]


def test_a_narrowed_network_and_the_one_it_was_made_of_share_nothing() -> None:
    # Given a network in training, and its numbers
    before = network(nn.BatchNorm2d(16))
    numbers = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    # When it is narrowed, and all that is left is changed
    after = narrowed(before)
    with torch.no_grad():
        for tensor in after.state_dict().values():
            tensor.add_(1)
    # Then the first has the numbers that it had
    assert all(torch.equal(tensor, numbers[name]) for name, tensor in before.state_dict().items())


class Shortcut(nn.Module):
    """Adds what an empty chain of layers passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.shortcut = nn.Conv2d(16, 16, 1), nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


def test_an_empty_chain_passes_its_input_on() -> None:
    # Given a residual block whose shortcut is a chain of no layers / When it is narrowed / Then both its ends are
    assert shapes(narrowed(network(Shortcut()))) == [(8, 3, 3, 3), (8, 8, 1, 1), (16, 8, 3, 3), (10, 16)]
