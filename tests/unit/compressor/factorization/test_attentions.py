"""The projections of torch's attention are factorized as linear layers are, and attention is left closed otherwise."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.attention import OpenAttention, SelfAttention
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.measure.counting import count_macs, count_parameters
from compressor.methods import factorize, prune_channels, quantize_static
from compressor.models.architectures import build
from compressor.models.edits import Open, Replace, apply_edits
from contract.failures import InvalidModel
from contract.methods.factorize import Factorize
from contract.methods.prune import PruneChannels
from contract.methods.quantize import QuantizeStatic
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.networks import answers, candidate_of, onnx_answers
from tests.unit.compressor.small_jobs import images

#: Rank of the projection that is factorized exactly.
RANK = 8
X = next(images(16, seed=9).batches(16)).x


class Attending(nn.Module):
    """Patches that attend to each other, as torchvision's transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 32, 8, 8), nn.MultiheadAttention(32, 4, batch_first=True)
        self.wide, self.head = nn.Linear(32, 64), nn.Linear(64, 4)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.randn(96, RANK) @ torch.randn(RANK, 32) / 8)
            self.attention.in_proj_bias.normal_()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        seen, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        found: Tensor = self.head(self.wide(tokens + seen).mean(1))
        return found


@pytest.fixture
def before() -> Candidate:
    """A network whose attention has a projection of low rank."""
    torch.manual_seed(0)
    return candidate_of(Attending(), size=32)


def factorized(candidate: Candidate, notes: dict[str, Json] | None = None, **params: object) -> Candidate:
    context = Context(calibration=images(96, seed=3), record=({} if notes is None else notes).__setitem__)
    return factorize.apply(candidate, Factorize.model_validate(params), context)


def names_of(told: Json) -> set[str]:
    assert isinstance(told, list)
    return {str(layer["name"]) for layer in told if isinstance(layer, Mapping)}


def test_a_projection_of_low_rank_becomes_two_layers_that_answer_the_same(before: Candidate, tmp_path: Path) -> None:
    # Given what the network answers and costs
    expected, parameters = answers(before.module, X), count_parameters(before.module)
    macs = count_macs(before.module, before.input_shape).total
    notes: dict[str, Json] = {}
    # When its attention is to keep all that it gives out
    after = factorized(before, notes, include=("attention",), energy=0.999999, data_aware=False)
    # Then its projection has its rank, and the answers are the same with fewer parameters and MACs
    assert names_of(notes["factorized"]) == {"attention.in_proj"}
    assert after.module.get_parameter("attention.in_proj.0.weight").shape == (RANK, 32)
    assert torch.allclose(answers(after.module, X), expected, atol=1e-4)
    assert parameters - count_parameters(after.module) == 96 * 32 - RANK * (96 + 32)
    assert macs - count_macs(after.module, after.input_shape).total == 16 * (96 * 32 - RANK * (96 + 32))
    # And the edits make a fresh network into one that takes its weights, and its file answers so too
    fresh = Attending().eval()
    apply_edits(fresh, after.edits)
    fresh.load_state_dict(after.module.state_dict())
    assert torch.equal(answers(fresh, X), answers(after.module, X))
    assert torch.allclose(onnx_answers(export(after, tmp_path / "model.onnx"), X), expected, atol=1e-3)


def test_attention_of_which_nothing_is_factorized_stays_what_it_was(before: Candidate) -> None:
    # Given patterns that mean another layer, or attention that would lose too much
    was = before.module.get_submodule("attention")
    for params in ({"include": ("wide",), "rank": 0.25}, {"rank": 0.25, "rank_by_layer": {"attention": 1.0}}):
        # When the network is factorized
        after = factorized(before, **params)
        # Then its attention is torch's own
        assert after.module.get_submodule("attention") is was
        assert {type(edit) for edit in after.edits} == {Replace}
        before = candidate_of(Attending(), size=32)
        was = before.module.get_submodule("attention")


def test_masked_attention_stays_closed(before: Candidate) -> None:
    # Given a mask on the projection / When the network is factorized / Then the mask still has its parameter
    name = "attention.in_proj_weight"
    masked = replace(before, masks={name: torch.ones(96, 32, dtype=torch.bool)})
    after = factorized(masked, rank=0.25)
    assert after.module.get_parameter(name).shape == (96, 32)


def test_what_follows_works_on_open_attention(before: Candidate, tmp_path: Path) -> None:
    # Given a network with open attention
    opened = factorized(before, rank=0.25)
    assert isinstance(opened.module.get_submodule("attention"), OpenAttention)
    # When it is pruned and quantized
    context = Context(calibration=images(96, seed=3))
    pruned = prune_channels.apply(opened, PruneChannels(ratio=0.5, round_to=1), context)
    made = quantize_static.apply(pruned, QuantizeStatic(), context)
    # Then the factors of the projection are narrower and have codes, and the file answers
    assert len(made.module.get_parameter("attention.in_proj.0.weight")) < len(
        opened.module.get_parameter("attention.in_proj.0.weight")
    )
    assert {f"attention.in_proj.{place}.weight" for place in (0, 1)} <= made.plan.weights.keys()
    assert onnx_answers(export(made, tmp_path / "model.onnx"), X).isfinite().all()
    # And it can be rebuilt
    fresh = Attending().eval()
    apply_edits(fresh, made.edits)
    fresh.load_state_dict(made.module.state_dict())


def test_heads_of_factorized_projections_stay_and_the_rest_is_pruned() -> None:
    # Given a transformer of timm whose projections are two layers each
    vit = Architecture(library="timm", name="test_vit", options={"num_classes": 4})
    before = candidate_of(build(vit, seed=0), size=160, architecture=vit)
    factors = factorize.apply(before, Factorize(rank=0.25, round_to=1), Context())
    heads = factors.module.get_submodule("blocks.0.attn").num_heads
    parameters = count_parameters(factors.module)
    # When channels are removed
    pruned = prune_channels.apply(factors, PruneChannels(ratio=0.5, round_to=1), Context())
    # Then there are fewer, and as many heads
    assert count_parameters(pruned.module) < 0.8 * parameters
    assert pruned.module.get_submodule("blocks.0.attn").num_heads == heads


def test_open_attention_computes_what_closed_attention_does() -> None:
    # Given torch's attention, and ours / When they are opened / Then they answer the same over the same parameters
    torch.manual_seed(0)
    theirs, x = nn.MultiheadAttention(16, 4, batch_first=True, bias=False).double(), torch.randn(2, 5, 16).double()
    expected = theirs(x, x, x, need_weights=False)[0]
    for closed in (theirs, SelfAttention.of(theirs)):
        opened = OpenAttention.of(closed)
        assert torch.allclose(opened(x, x, x)[0], expected)
        assert opened.get_parameter("in_proj.weight") is theirs.in_proj_weight


def test_an_edit_that_opens_what_is_no_attention_is_refused() -> None:
    with pytest.raises(InvalidModel, match="opens head"):
        apply_edits(Attending(), [Open(module="head")])
