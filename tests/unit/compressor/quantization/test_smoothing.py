"""Outliers of activations that become weights."""

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.methods.quantize_static import apply
from compressor.models.architectures import build
from compressor.models.torchvision_ops import torchvision
from compressor.quantization.graph import capture
from compressor.quantization.observing import observe
from compressor.quantization.simulate import simulated
from compressor.quantization.smoothing import groups, smooth
from compressor.training.objectives import kl_divergence
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import TINY_TRANSFORMER, answers, candidate_of, images_for, inputs_for

_FACTOR = 50.0


def of_torchvision() -> nn.Module:
    return torchvision().models.VisionTransformer(
        32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=4
    )


def transformer(kind: str) -> Candidate:
    """A small vision transformer that has an opinion."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(TINY_TRANSFORMER) if kind == "timm" else of_torchvision()
        nn.init.normal_(module.head.weight if kind == "timm" else module.heads.head.weight)
        for part in module.modules():
            if isinstance(part, nn.LayerNorm):
                nn.init.normal_(part.weight, 1.0, 0.1)
                nn.init.normal_(part.bias, 0.0, 0.1)
    return candidate_of(module, size=32)


def with_outliers(candidate: Candidate) -> Candidate:
    """The same answers, with a few channels of every smoothable normalization far larger than the others."""
    with torch.no_grad():
        for group in groups(capture(candidate.module, candidate.input_shape)):
            for part in group.affine:
                part[:3] *= _FACTOR
            for weight in group.weights:
                weight[:, :3] /= _FACTOR
    return candidate


@pytest.mark.parametrize("kind", ["timm", "torchvision"])
def test_smoothing_changes_no_answer_and_evens_out_what_the_layers_read(kind: str) -> None:
    # Given a transformer with outliers
    candidate = transformer(kind)
    x = inputs_for(candidate)
    plain = answers(candidate.module, x)
    with_outliers(candidate)
    before = answers(candidate.module, x)
    assert torch.allclose(before, plain, rtol=1e-3, atol=1e-4)
    # When it is smoothed
    graph = capture(candidate.module, candidate.input_shape)
    found = list(groups(graph))
    chosen = [name for group in found for name in group.parameters]
    spread = _spread(graph, x)
    layers = smooth(graph, [x], strength=0.5, chosen=chosen, keep=())
    # Then attention's and the perceptron's normalization were, in both blocks, and that before the head
    assert len(layers) == 5
    # And the answers are the same, and the largest channels are near to the others
    assert torch.allclose(answers(candidate.module, x), before, rtol=1e-3, atol=1e-4)
    assert spread > 20
    assert _spread(graph, x) < 8


def _spread(graph: GraphModule, x: torch.Tensor) -> float:
    """How many times larger the largest channel of the first normalization is than the one in the middle."""
    seen: list[torch.Tensor] = []
    observe(graph, {next(iter(groups(graph))).node: seen.append}, [x])
    largest = seen[0].abs().flatten(0, -2).amax(0)
    return float(largest.amax() / largest.median())


def test_the_factor_is_that_of_the_paper() -> None:
    # Given one normalization with one linear layer behind it
    module = nn.Sequential(nn.Flatten(1), nn.LayerNorm(12), nn.Linear(12, 4))
    candidate = candidate_of(module, size=2)
    x = inputs_for(candidate)
    inputs = module[:2](x).detach().abs().amax(0)
    columns = module[2].weight.detach().abs().amax(0)
    gain = module[1].weight.detach().clone()
    # When three quarters of the spread are moved
    smooth(capture(module, (3, 2, 2)), [x], strength=0.75, chosen={"2.weight"}, keep=())
    # Then the gain is divided by max|X|**0.75 / max|W|**0.25 (Xiao et al. 2023, eq. 4)
    assert torch.allclose(module[1].weight, gain / (inputs**0.75 / columns**0.25), rtol=1e-4)


def test_what_something_else_reads_too_is_left_alone() -> None:
    # Given a normalization whose output is added to what the linear layer gives
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(12), nn.Linear(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x.flatten(1))
            return x + self.linear(x)

    # When groups are looked for, then there is none
    assert list(groups(capture(Residual(), (3, 2, 2)))) == []


def test_a_transformer_with_outliers_keeps_its_answers() -> None:
    # Given a transformer some of whose normalized channels are 50 times larger, at no change of its answers
    def divergence(smoothing: float | None) -> float:
        candidate = with_outliers(transformer("timm"))
        x = inputs_for(candidate, 256, seed=1)
        before = answers(candidate.module, x)
        context = Context(calibration=images_for(candidate, 128))
        params = QuantizeStatic(smooth=smoothing, correct_bias=False)
        after = answers(simulated(apply(candidate, params, context)), x)
        return float(kl_divergence(after.double(), before.double(), temperature=1.0))

    # When it is quantized plainly and with SmoothQuant, then the latter loses a fifth at most
    assert divergence(0.5) <= 0.2 * divergence(None)
