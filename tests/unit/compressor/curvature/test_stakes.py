"""What errors of layers cost, by formulas of their own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.curvature.stakes import stakes

_DRAWS = 4000


class Forked(nn.Module):
    """A convolution that runs twice and is overwritten, and a linear layer for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.each = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3)."""
        seen = self.twice(self.twice(x).relu_())
        answer: Tensor = self.head(self.each(seen.flatten(2).mT).tanh().sum(1))
        return answer


def fisher(network: Forked, name: str, x: Tensor) -> Tensor:
    """The mean over images of sum_k p_k g g^T, g being d log p_k / d output, summed over places and runs."""
    layer = network.get_submodule(name)
    total = torch.zeros(1)
    for image in x.split(1):
        made: list[Tensor] = []
        with layer.register_forward_hook(lambda _, __, y, made=made: made.append(y) or y.clone()):
            likely = F.log_softmax(network(image), dim=1)[0]
        for k in range(len(likely)):
            for by_output in torch.autograd.grad(likely[k], made, retain_graph=True):
                rows = by_output.movedim(1, -1).flatten(0, -2) if by_output.dim() == 4 else by_output.flatten(0, -2)
                total = total + likely[k].exp().detach() * rows.T @ rows / len(x)
    return total


def test_they_are_fishers_information_of_what_layers_give_out() -> None:
    # Given a network / When the derivatives of many drawn answers are taken
    torch.manual_seed(0)
    network, x = Forked(), torch.randn(3, 3, 4, 4)
    layers = {name: network.get_submodule(name) for name in ("twice", "each", "head")}
    found = stakes(network, layers, x.repeat(_DRAWS, 1, 1, 1).split(500), seed=0)  # type: ignore[arg-type]
    # Then their products come to what the sum over all answers says
    for name in layers:
        expected = fisher(network, name, x)
        assert torch.allclose(found[name], expected, rtol=0.1, atol=0.02 * float(expected.max())), name


@pytest.mark.parametrize("trouble", ["detached", "not finite"])
def test_what_is_not_known_of_all_layers_is_told_of_none(trouble: str) -> None:
    # Given a network in which one layer has no derivatives, or such as are no numbers
    class Odd(Forked):
        def forward(self, x: Tensor) -> Tensor:
            seen = self.twice(x)
            seen = seen.detach() + x if trouble == "detached" else (seen - seen.detach()).sqrt()
            answer: Tensor = self.head(self.each(seen.flatten(2).mT).sum(1))
            return answer.nan_to_num()

    network = Odd()
    layers = {name: network.get_submodule(name) for name in ("twice", "each")}
    # When it is asked what errors cost / Then nothing is said
    assert stakes(network, layers, [torch.randn(4, 3, 4, 4)], seed=0) == {}  # type: ignore[arg-type]
