import pytest
import torch
from torch import nn

from compressor.measure.counting import (
    count_macs,
    count_nonzero,
    count_parameters,
    evaluating,
    layer_reports,
    zeros,
)
from compressor.models.architectures import build
from compressor.quantization.integers import WeightCodes
from compressor.quantization.plan import QuantizationPlan
from contract.model import Architecture


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 10))


def test_macs_are_counted_by_hand() -> None:
    # Given a convolution of 3x3x3 kernels at 4x4 places and a matrix of 128x10
    module = two_layers()
    # When they are counted
    macs = count_macs(module, (3, 4, 4))
    # Then every product counts once, for one image
    assert macs.by_module["0"] == 8 * 4 * 4 * 3 * 3 * 3
    assert macs.by_module["3"] == 128 * 10
    assert macs.total == macs.by_module["0"] + macs.by_module["3"]


@pytest.mark.parametrize(
    ("name", "documented"), [("resnet18", 1.814e9), ("mobilenet_v2", 0.301e9), ("swin_t", 4.491e9)]
)
def test_macs_are_those_that_torchvision_documents(name: str, documented: float) -> None:
    # Given a network whose documentation gives its MACs, attention among them
    module = build(Architecture(name=name))
    # When they are counted
    macs = count_macs(module, (3, 224, 224))
    # Then the numbers agree
    assert macs.total == pytest.approx(documented, rel=1e-3)


def test_attention_counts_although_torch_has_a_fast_path_for_it() -> None:
    # Given attention over a sequence of 16 with 8 wide tokens, for which torch would run one opaque operator
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            out: torch.Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return out

    # When its MACs are counted
    macs = count_macs(Attending(), (8, 4, 4))
    # Then projections (four of 8x8 for each token) and both products of attention are in it
    assert macs.total == 16 * 4 * 8 * 8 + 2 * 16 * 16 * 8


class Given(nn.Module):
    """Gives a parameter to a layer as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.token) + x.mean()


def test_a_parameter_can_be_what_a_layer_is_given() -> None:
    # Given a network that feeds a layer with a parameter, one of which stands still
    module = Given()
    module.layer.weight.requires_grad_(False)
    # When it is counted / Then that works, and the same parameters learn as before
    assert count_macs(module, (3, 4, 4)).total == 8
    assert (module.token.requires_grad, module.layer.weight.requires_grad) == (True, False)


def test_zeros_and_parameters() -> None:
    # Given a layer with half of its weights zero
    module = nn.Linear(4, 4)
    with torch.no_grad():
        module.weight.fill_(1).view(-1)[:8] = 0
        module.bias.fill_(1)
    # Then the counts tell of weights and bias
    assert count_parameters(module) == 20
    assert count_nonzero(module) == 12
    assert zeros(module) == 0.5


def test_layers_are_told_one_by_one() -> None:
    # Given a network whose last layer has codes of 8 bits
    module = two_layers()
    codes = WeightCodes(torch.zeros(10, 128, dtype=torch.int8), torch.ones(10))
    # When its layers are told
    layers = layer_reports(module, count_macs(module, (3, 4, 4)), QuantizationPlan({"3.weight": codes}))
    # Then each has its name, shape and bits
    assert [(layer.name, layer.kind, layer.shape, layer.bits) for layer in layers] == [
        ("0", "Conv2d", (8, 3, 3, 3), 32),
        ("3", "Linear", (10, 128), 8),
    ]
    assert sum(layer.parameters for layer in layers) == count_parameters(module)


def test_a_module_gets_its_own_mode_back() -> None:
    # Given a network in training whose normalization is frozen
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    module.train()
    module[1].eval()
    # When it is looked at in eval mode
    with evaluating(module):
        assert not module.training
        assert not torch.is_grad_enabled()
    # Then each part is as it was
    assert module.training
    assert not module[1].training
