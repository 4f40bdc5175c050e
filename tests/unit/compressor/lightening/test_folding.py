"""Batch normalization goes into the layer before it where that answers the same, and stays where it would not."""

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.lightening.folding import fold
from compressor.lightening.network import Network
from compressor.models.architectures import build
from contract.methods.lighten import Lighten
from contract.model import Architecture
from tests.unit.compressor.networks import (
    answers,
    candidate_of,
    inputs_for,
    residual,
    unusual,
    with_statistics,
)


def folded(candidate: Candidate, **params: object) -> tuple[Network, dict[str, str]]:
    """The network after the fold, and what was folded into what; it answers as before."""
    x = inputs_for(candidate)
    wanted = answers(candidate.module, x)
    network = Network.of(candidate, Lighten.model_validate(params))
    found = fold(network)
    assert torch.allclose(answers(candidate.module, x), wanted, atol=1e-5 * float(wanted.abs().max()))
    return network, found


def test_convolutions_take_it_in_and_get_a_bias() -> None:
    # Given convolutions with and without a bias, negative scales among the normalizations / When these are folded
    network, found = folded(residual())
    # Then none is left, and the network answers the same
    assert found == {"stem.1": "stem.0", "depthwise.1": "depthwise.0", "project.1": "project.0"}
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.module.modules())
    assert not network.left


class Dense(nn.Module):
    """Linear layers with batch normalization, which only in one dimension has the features for channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(192, 8, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.rows = nn.Linear(4, 8)
        self.of_rows = nn.BatchNorm1d(2)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 8, 8) to (N, 4)."""
        x = self.norm(self.first(x.flatten(1))).reshape(-1, 2, 4)
        return self.head(self.of_rows(self.rows(x)).flatten(1))


def test_linear_layers_take_in_what_normalizes_their_features() -> None:
    # Given two linear layers with normalization behind, the second over the rows that go through it
    module = Dense()
    for part in (module.norm, module.of_rows):
        part.running_mean.normal_()  # type: ignore[union-attr]
        part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    # When they are folded / Then the first one is, and the second is told of
    network, found = folded(candidate_of(module))
    assert found == {"norm": "first"}
    assert "of_rows" in network.left


def test_what_would_answer_otherwise_stays_and_is_told() -> None:
    # Given a convolution that runs three times, a normalization of a sum, and one by the batch alone
    network, found = folded(unusual())
    # Then nothing is folded
    assert found == {}
    assert network.left.keys() == {"after_sum", "by_batch"}
    assert network.edits == []


class Shared(nn.Module):
    """A convolution that runs with and without normalization, and a normalization of what two layers give."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.left, self.right, self.of_both = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = self.norm(self.twice(self.twice(x)))
        return (self.of_both(self.left(x)) * self.of_both(self.right(x))).mean((2, 3))


def test_what_is_run_more_than_once_stays() -> None:
    # Given a layer that is run twice, and a normalization that is / When they are folded / Then they stay, and are told
    network, found = folded(candidate_of(with_statistics(Shared())))
    assert found == {}
    assert network.left.keys() == {"norm", "of_both"}
    assert all("more than once" in reason for reason in network.left.values())


def test_an_activation_within_a_normalization_stays_behind() -> None:
    # Given timm's network whose normalizations are followed by SiLU within the same module / When they are folded
    architecture = Architecture(library="timm", name="test_efficientnet", options={"num_classes": 4})
    candidate = candidate_of(with_statistics(build(architecture)), size=32, architecture=architecture)
    network, found = folded(candidate)
    # Then its activations are modules of their own now
    assert len(found) > 5
    assert not network.left
    assert isinstance(network.module.get_submodule("bn1"), nn.SiLU | nn.ReLU)


def test_patterns_keep_what_they_exclude() -> None:
    network, found = folded(residual(), exclude=("stem", "project.1"))
    assert found == {"depthwise.1": "depthwise.0"}
    assert not network.left
