"""A network as a graph."""

import pytest
import torch
from torch import Tensor, nn

from compressor.quantization.graph import aten, capture, exported, parameter_name, sites
from contract.failures import UnfitModel
from tests.unit.compressor.networks import ByContent, answers, inputs_for, named, residual, shared


class _Overwriting(nn.Module):
    """Reads an activation again after it was overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = torch.relu_(y)
        y += 1
        return torch.flatten(y + z, 1)


def test_the_graph_answers_as_the_module_does_for_any_batch() -> None:
    # Given a network in training mode
    candidate = residual()
    x = inputs_for(candidate, 7)
    wanted = answers(candidate.module, x)
    candidate.module.train()
    # When it is captured
    graph = capture(candidate.module, candidate.input_shape)
    # Then the graph answers as the network does in eval mode, for batches of one and of seven
    assert torch.allclose(answers(graph, x), wanted, atol=1e-6)
    assert torch.allclose(answers(graph, x[:1]), wanted[:1], atol=1e-6)
    # And the network is in training mode as before
    assert all(part.training for part in candidate.module.modules())


def test_what_is_overwritten_is_written_anew() -> None:
    # Given a network that overwrites an activation and reads it again
    module = _Overwriting().eval()
    x = torch.randn(2, 3, 4, 4)
    # When it is captured
    graph = capture(module, (3, 4, 4))
    # Then no operator overwrites, and the answers are the same
    assert not [node for node in graph.graph.nodes if node.target in (aten.relu_.default, aten.add_.Tensor)]
    assert torch.equal(answers(graph, x), answers(module, x))


def test_a_parameter_of_several_names_is_read_once_under_the_first() -> None:
    # Given a network with weights that several layers share / When it is captured
    candidate = shared()
    graph = capture(candidate.module, candidate.input_shape)
    # Then each is read once, by the name that the network's own list of parameters has
    own = dict(candidate.module.named_parameters())
    read = [parameter_name(node) for node in graph.graph.nodes if node.op == "get_attr"]
    assert sorted(read) == sorted(own)
    # And the graph answers as the network does
    x = inputs_for(candidate)
    assert torch.allclose(answers(graph, x), answers(candidate.module, x), atol=1e-6)


def test_the_graph_shares_the_modules_parameters() -> None:
    # Given a captured network
    candidate = residual()
    graph = capture(candidate.module, candidate.input_shape)
    # When a weight of the module changes
    with torch.no_grad():
        candidate.module.head.weight.zero_()
        candidate.module.head.bias.zero_()
    # Then the graph answers with it
    assert bool((answers(graph, inputs_for(candidate, 2)) == 0).all())
    assert {parameter_name(n) for n in graph.graph.nodes} >= {"head.weight", "stem.0.weight"}


def test_the_names_of_activations_outlast_a_rebuild() -> None:
    # Given the same architecture built twice, with other weights
    first, second = named("resnet18", size=32), named("resnet18", size=32)
    # When their activations are named
    one, two = (list(sites(capture(c.module, c.input_shape)).values()) for c in (first, second))
    # Then the names are the same, each is one activation's, and they tell where it is made
    assert one == two
    assert len(set(one)) == len(one)
    assert {"image", "layer1.0.conv1/conv2d", "layer4.1.relu/relu", "layer4.1.relu/relu.1"} <= set(one)


class _Equal(nn.Module):
    """Asks for equality, for which torch has no symbol."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if torch.equal(x, x.flip(2)) else x.amax((2, 3))


class _OfTwo(nn.Module):
    """Takes two images, and no other number of them."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.mean((2, 3))
        return torch.stack([first, second])


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (ByContent(), "decides by the values of its inputs, and so cannot be traced: GuardOnDataDependentSymNode"),
        (_Equal(), "decides by the values of its inputs, and so cannot be traced: DataDependentOutputException"),
        (_OfTwo(), "takes batches of one size alone"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_the_cause_in_one_line(module: nn.Module, told: str) -> None:
    # Given a network that decides by what it sees, or by how many images there are
    module.train()
    # When it is captured, then the failure says so in one line
    with pytest.raises(UnfitModel, match=told) as caught:
        capture(module, (3, 4, 4))
    assert "\n" not in caught.value.detail
    # And the network is in training mode as before
    assert module.training


class _Viewed(nn.Module):
    """Overwrites what others see through a view, and what nobody else sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.alone = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardtanh(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        nn.functional.hardtanh_(y.flatten(1))
        z = y - 1
        nn.functional.relu_(z)
        return torch.flatten(self.alone(y) + y + z, 1)


def test_a_program_overwrites_only_what_others_see() -> None:
    # Given a network that overwrites activations, one of them through a view
    module = _Viewed().eval()
    x = 3 * torch.randn(2, 3, 4, 4)
    # When it is exported
    program = exported(module, (3, 4, 4))
    # Then that one is overwritten as before, the others are not, and the answers are the same
    kinds = [node.target for node in program.graph.nodes]
    assert [kinds.count(kind) for kind in (aten.hardtanh_.default, aten.hardtanh.default)] == [1, 1]
    assert [kinds.count(kind) for kind in (aten.relu_.default, aten.relu.default)] == [0, 1]
    assert torch.equal(answers(program.module(), x), answers(module, x))
