"""What gates on channels say of them, by formulas of their own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.pruning.gates import derivatives_by_gates

_DRAWS = 4000


class Forked(nn.Module):
    """Channels that two layers take: one that runs twice, one behind a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 5 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x).relu()
        # In place, as networks do it: what a layer has seen must not change under it.
        again = self.twice(first).relu_()
        answer: Tensor = self.head((first + self.twice(again)).flatten(1))
        return answer


class Gated(nn.Module):
    """Lets what a layer sees differ from its mean by as many times as the gates say."""

    def __init__(self, layer: nn.Module, gates: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.layer, self.gates, self.mean = layer, gates, mean

    def forward(self, x: Tensor) -> Tensor:
        gates, mean = (one.view(-1, *[1] * (x.dim() - 2)) for one in (self.gates, self.mean))
        answer: Tensor = self.layer(mean + gates * (x - mean))
        return answer


def seen_by(network: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """All that a layer sees: (inputs, images and positions)."""
    seen: list[Tensor] = []
    with layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())), torch.no_grad():
        network(x)
    return torch.cat([one.transpose(0, 1).flatten(1) for one in seen], dim=1)


def fisher(network: Forked, name: str, x: Tensor) -> Tensor:
    """By a gate on each input of a layer: the mean over images of sum_k p_k (d log p_k / d gate)^2."""
    layer = network.get_submodule(name)
    seen = seen_by(network, layer, x)
    gates = torch.ones(len(seen), dtype=x.dtype, requires_grad=True)
    network.set_submodule(name, Gated(layer, gates, seen.mean(1)))
    total = torch.zeros(len(seen), dtype=x.dtype)
    for image in x.split(1):
        likely = F.log_softmax(network(image), dim=1)[0]
        for k in range(len(likely)):
            (by_gate,) = torch.autograd.grad(likely[k], gates, retain_graph=True)
            total += likely[k].exp().detach() * by_gate.square() / len(x)
    network.set_submodule(name, layer)
    return total


@pytest.mark.parametrize("name", ["twice", "head"])
def test_their_mean_square_is_fishers_information_of_a_gate_on_what_a_channel_has_beside_its_mean(name: str) -> None:
    # Given a network / When the derivatives of many drawn answers are taken
    torch.manual_seed(0)
    network, x = Forked().double(), torch.randn(3, 3, 5, 5).double()
    found = derivatives_by_gates(network, x.repeat(_DRAWS, 1, 1, 1).split(500), seed=0)
    # Then their squares come to what the sum over all answers says
    layer = network.get_submodule(name)
    expected = fisher(network, name, x)
    assert found[layer].shape == (3 * _DRAWS, len(expected))
    assert torch.allclose(found[layer].square().mean(0), expected, rtol=0.1, atol=0.01 * float(expected.max()))


def test_the_network_is_left_as_it_was() -> None:
    # Given a network of which one parameter is fixed, and that is in training / When its gates are looked at
    network = Forked().train()
    network.stem.bias.requires_grad_(False)  # type: ignore[union-attr]
    derivatives_by_gates(network, [torch.randn(4, 3, 5, 5)], seed=0)
    # Then nothing is left of it: no gradient, no hook, no other mode
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [name for name, parameter in network.named_parameters() if not parameter.requires_grad] == ["stem.bias"]
    assert not any(part._forward_pre_hooks for part in network.modules())
    assert all(part.training for part in network.modules())


def test_the_seed_decides_which_answers_are_drawn() -> None:
    torch.manual_seed(0)
    network, x = Forked(), torch.randn(32, 3, 5, 5)
    first, again, other = (derivatives_by_gates(network, [x], seed=seed)[network.head] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
