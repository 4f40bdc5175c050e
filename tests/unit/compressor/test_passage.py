"""What a layer is given, what it gives, and what that is added to."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.passage import Passage, passed, rows_of

Join = Callable[[Tensor, Tensor], Tensor]


class Branched(nn.Module):
    """Two branches and what becomes of them; behind them is a layer that must not be run."""

    def __init__(self, join: Join, *, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.long, self.short = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.norm = norm or nn.Identity()
        self.join = join
        self.behind, self.idle = nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1)
        self.ran_behind = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4, H, W)."""
        joined = self.join(self.norm(self.long(x)), self.short(x))
        self.ran_behind = True
        return self.behind(joined.relu())


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def at(network: nn.Module, layer: nn.Module) -> Passage:
    found = passed(network, layer, X)
    assert found is not None
    return found


def in_place(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a + b,
        lambda a, b: b + a,
        in_place,
        torch.add,
        lambda a, b: a.add_(b),
        lambda a, b: F.dropout(a, training=False) + b,
    ],
    ids=["a sum", "from the right", "in place", "a function", "a method", "behind dropout"],
)
def test_what_a_layer_is_added_to_is_found(join: Join) -> None:
    # Given a layer whose output is added to what another gave
    network = Branched(join).eval()
    # When a batch is followed through it
    found = at(network, network.long)
    # Then what it was given, what it gave and what that is added to are known, and no more was run
    assert torch.equal(found.given, X)
    assert torch.equal(found.gave, network.long(X))
    assert found.beside is not None
    assert torch.equal(found.beside.rows, network.short(X).movedim(1, -1).flatten(0, -2))
    assert torch.equal(found.beside.scale, torch.ones(4))
    assert not network.ran_behind


def test_a_normalization_before_the_sum_is_counted() -> None:
    # Given a sum behind a normalization with statistics and weights of its own
    norm = nn.BatchNorm2d(4)
    for tensor in (norm.weight.data, norm.running_var, norm.running_mean):
        assert tensor is not None
        tensor.uniform_(0.5, 2)
    network, other = (Branched(torch.add, norm=norm).eval() for _ in range(2))
    other.load_state_dict(network.state_dict())
    other.short.weight.data.mul_(0.9 + 0.1 * torch.rand_like(other.short.weight))
    # When a layer gives in addition what the sum lacks
    now, was = at(other, other.long), at(network, network.long)
    assert now.beside is not None
    assert was.beside is not None
    more = now.beside.lacks(was.beside, rows_of(network.long, was.gave)).view(2, 6, 6, 4).movedim(-1, 1)
    # Then the sum is as it was
    with torch.no_grad():
        made = norm(now.gave + more) + other.short(X)
        assert torch.allclose(made, norm(was.gave) + network.short(X), atol=1e-5)


@pytest.mark.parametrize("least", [0.0, 1e-30, 1e-6])
def test_a_channel_that_hardly_counts_is_not_made_huge(least: float) -> None:
    # Given a normalization that lets almost nothing of one channel through / When a sum lacks something
    norm = nn.BatchNorm2d(4)
    norm.weight.data[1] = least
    network, other = Branched(torch.add, norm=norm).eval(), Branched(torch.add, norm=norm).eval()
    other.load_state_dict(network.state_dict())
    other.short.weight.data.mul_(0.9)
    now, was = at(other, other.long), at(network, network.long)
    assert now.beside is not None
    assert was.beside is not None
    gave = rows_of(network.long, was.gave)
    lacks = now.beside.lacks(was.beside, gave).square().mean(0)
    # Then that channel is not asked for a million times as much, and the others for what is lacking
    assert lacks[1] < 1e-6 * gave.var(0)[1]
    lacking = (was.beside.rows - now.beside.rows) / now.beside.scale
    assert torch.allclose(lacks[[0, 2, 3]], lacking.square().mean(0)[[0, 2, 3]])


def test_a_closed_channel_of_a_sum_that_lacks_nothing_stays_as_it_is() -> None:
    # Given a normalization that lets nothing of a channel through, as some begin / When the sum is as it was
    norm = nn.BatchNorm2d(4)
    norm.weight.data[1] = 0
    network = Branched(torch.add, norm=norm).eval()
    found = at(network, network.long)
    assert found.beside is not None
    # Then nothing more is asked for
    assert torch.equal(found.beside.lacks(found.beside, rows_of(network.long, found.gave)), torch.zeros(72, 4))


def test_of_a_sum_the_outputs_that_are_left_are_found() -> None:
    # Given the sum behind a layer / When some of its outputs are asked for
    beside = at(network := Branched(torch.add).eval(), network.long).beside
    assert beside is not None
    left = beside.of(torch.tensor([2, 0]))
    # Then those are given, in that order, and all where nobody asks
    assert torch.equal(left.rows, beside.rows[:, [2, 0]])
    assert len(left.scale) == 2
    assert beside.of(None) is beside


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a.relu() + b,
        lambda a, b: a * b,
        lambda a, b: torch.cat([a, b], 1)[:, :4],
        lambda a, b: a + 1.0,
        lambda a, b: a + b.mean((2, 3), keepdim=True),
        lambda a, b: torch.add(a, b, alpha=2),
        lambda a, b: a + a,
        lambda a, b: b,
    ],
    ids=["an activation", "a product", "beside each other", "a number", "a mean", "a multiple", "itself", "nothing"],
)
def test_what_is_no_plain_sum_is_none(join: Join) -> None:
    # Given a network that does something else first with what a layer gives / When it is followed
    network = Branched(join).eval()
    # Then nothing is said to be beside it, and what it gave is known all the same
    found = at(network, network.long)
    assert found.beside is None
    assert torch.equal(found.gave, network.long(X))


@pytest.mark.parametrize("join", [lambda a, b: a.relu_() + b, lambda a, b: a.mul_(2) + b, lambda a, b: a.mT.relu_()])
def test_what_is_changed_in_place_behind_a_layer_is_what_it_was(join: Join) -> None:
    # Given a network that goes on in place with what a layer gave / When the layer is followed
    network = Branched(join).eval()
    found = at(network, network.long)
    # Then what it gave is known as it gave it
    assert torch.equal(found.gave, network.long(X))


def test_what_a_layer_was_given_may_be_changed_in_place_behind_it() -> None:
    # Given a network that changes in place what its layer was given, before it adds
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = x * 1
            y = self.layer(x)
            return y + x.relu_()

    network = Late()
    # When the layer is followed / Then what it was given is known as it was
    found = at(network, network.layer)
    assert torch.equal(found.given, X)
    assert found.beside is not None


def test_statistics_of_each_batch_are_no_fixed_ones() -> None:
    # Given a normalization that keeps no statistics / When a layer before it is followed
    network = Branched(torch.add, norm=nn.BatchNorm2d(4, track_running_stats=False))
    # Then by what it multiplies is not known
    assert at(network, network.long).beside is None


def test_the_shape_of_what_a_layer_gave_may_be_looked_at() -> None:
    # Given a network that looks at shapes before it adds / When a layer is followed / Then it is found all the same
    network = Branched(lambda a, b: a + b if a.shape == b.shape and a.dim() == 4 and a.size(1) else a).eval()
    assert at(network, network.long).beside is not None


def test_tokens_are_added_too() -> None:
    # Given a linear layer whose output is added to tokens, as in transformers
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.layer(x.relu())

    block = Block()
    # When it is followed / Then the tokens are beside it
    beside = at(block, block.layer).beside
    assert beside is not None
    assert torch.equal(beside.rows, X.reshape(-1, 6))


def test_a_layer_that_is_not_run_has_no_passage() -> None:
    network = Branched(torch.add)
    assert passed(network, network.idle, X) is None


def test_of_a_layer_that_is_run_twice_the_first_time_counts() -> None:
    # Given a layer that is run on what it gave / When it is followed / Then what it was given first is known
    layer = nn.Conv2d(3, 3, 1)
    assert torch.equal(at(nn.Sequential(layer, layer), layer).given, X)
