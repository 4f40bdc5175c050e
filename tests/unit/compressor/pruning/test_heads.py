"""Attention loses heads: which, how many, and that nothing else changes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.attention import SelfAttention
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.measure.counting import count_macs, count_parameters
from compressor.methods import prune_channels, prune_weights
from compressor.models.edits import Unfuse, apply_edits
from compressor.models.files import read, write
from compressor.models.torchvision_ops import torchvision
from compressor.pruning.heads import all_heads, unfuse
from contract.failures import InvalidModel
from contract.methods.prune import PruneChannels, PruneWeights
from contract.value import Json
from tests.unit.compressor.networks import candidate_of
from tests.unit.compressor.pruning.architectures import candidate, images, stirred

#: A vision transformer of each library, with what its attention is called, and how many heads and blocks it has.
TRANSFORMERS = {
    "torchvision": ("vit_b_32", "encoder.layers.encoder_layer_{}.self_attention", 12, 12),
    "timm": ("vit_tiny_patch16_224", "blocks.{}.attn", 3, 12),
}
X = images(4, 64)


def transformer(library: str) -> Candidate:
    before = candidate(TRANSFORMERS[library][0], library=library)
    stirred(before.module, X)
    return before


def answers(module: nn.Module) -> Tensor:
    with torch.no_grad():
        answer: Tensor = module.eval()(X)
    return answer


@pytest.mark.parametrize("library", TRANSFORMERS)
def test_removing_heads_that_say_nothing_changes_no_answer(library: str) -> None:
    # Given a transformer in which one head of every attention is not listened to
    module = transformer(library).module.double()
    unfuse(module, X.double(), fixed=())
    for heads in all_heads(module):
        heads.taken.data.view(-1, heads.count, heads.width)[:, 1] = 0
    with torch.no_grad():
        expected = module(X.double())
    # When those heads go
    found = list(all_heads(module))
    for heads in found:
        heads.remove({1})
    # Then it is smaller and answers the same
    assert len(found) == TRANSFORMERS[library][3]
    assert all(heads.count == TRANSFORMERS[library][2] - 1 for heads in all_heads(module))
    with torch.no_grad():
        assert torch.allclose(module(X.double()), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("library", TRANSFORMERS)
def test_a_transformer_loses_heads_and_hidden_widths_and_can_be_rebuilt(library: str, tmp_path: Path) -> None:
    # Given a vision transformer
    _, attention, heads, blocks = TRANSFORMERS[library]
    before, details = transformer(library), dict[str, Json]()
    parameters, macs = count_parameters(before.module), count_macs(before.module, before.input_shape).total
    # When a third of everything shall go
    params = PruneChannels(ratio=1 / 3)
    after = prune_channels.apply(before, params, Context(record=details.__setitem__))
    # Then each attention has lost a third of its heads, and the report says so
    assert details["heads"] == {attention.format(n): [heads, heads * 2 // 3] for n in range(blocks)}
    # And parameters and MACs of the blocks have fallen by as much
    assert count_parameters(after.module) < 0.72 * parameters
    assert count_macs(after.module, after.input_shape).total < 0.72 * macs
    # And it can be rebuilt from its files
    write(after, tmp_path)
    assert torch.equal(answers(read(tmp_path).module), answers(after.module))


@pytest.mark.parametrize("target", ["macs_ratio", "parameters_ratio"])
def test_a_target_counts_heads_exactly(target: str) -> None:
    # Given a vision transformer / When a part of its costs shall be left
    before = candidate("vit_b_32")
    counts = count_macs(before.module, before.input_shape).total, count_parameters(before.module)
    after = prune_channels.apply(before, PruneChannels.model_validate({target: 0.6, "round_to": 1}), Context())
    # Then that is what is counted, as near as whole heads allow
    left = {
        "macs_ratio": count_macs(after.module, after.input_shape).total / counts[0],
        "parameters_ratio": count_parameters(after.module) / counts[1],
    }
    assert 0.585 <= left[target] <= 0.6


def test_attention_that_is_excluded_stays_as_torch_made_it() -> None:
    # Given a transformer / When its attention is left out
    details = dict[str, Json]()
    params = PruneChannels(exclude=("*.self_attention",))
    after = prune_channels.apply(candidate("vit_b_32"), params, Context(record=details.__setitem__))
    # Then it has its heads, and is still torch's own
    assert "heads" not in details
    attentions = [part for part in after.module.modules() if isinstance(part, nn.MultiheadAttention)]
    assert [part.num_heads for part in attentions] == [12] * 12


def test_heads_can_have_a_ratio_of_their_own() -> None:
    details = dict[str, Json]()
    params = PruneChannels(ratio=0.5, ratio_by_layer={"*.encoder_layer_0.self_attention": 0.75, "*.self_attention": 0})
    prune_channels.apply(candidate("vit_b_32"), params, Context(record=details.__setitem__))
    assert details["heads"] == {"encoder.layers.encoder_layer_0.self_attention": [12, 3]}


def test_masks_are_sliced_with_the_heads() -> None:
    # Given a transformer half of whose attention weights are pruned
    masked = prune_weights.apply(small_transformer(), PruneWeights(include=("*.self_attention",)), Context())
    # When heads go
    after = prune_channels.apply(masked, PruneChannels(), Context())
    # Then the masks have the new shapes, and what they prune is zero
    assert set(after.masks) == set(masked.masks)
    for name, mask in after.masks.items():
        weight = after.module.get_parameter(name)
        assert mask.shape == weight.shape
        assert not weight[~mask].any()
        assert not weight.isnan().any()


def small_transformer() -> Candidate:
    """Two blocks, each of twelve heads of eight features."""
    torch.manual_seed(0)
    module = torchvision().models.VisionTransformer(
        image_size=64, patch_size=32, num_layers=2, num_heads=12, hidden_dim=96, mlp_dim=192, num_classes=10
    )
    return candidate_of(stirred(module, X), size=64, num_classes=10)


SEEN = Images(X, torch.arange(4) % 10, small_transformer().preprocessing)


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "fisher", "obs", "activation", "fpgm"])
def test_the_heads_that_go_are_those_of_least_worth(importance: str) -> None:
    # Given a transformer whose first attention has three heads that are worth little by any measure
    before = small_transformer()
    name = "encoder.layers.encoder_layer_0.self_attention"
    attention = before.module.get_submodule(name)
    assert isinstance(attention, nn.MultiheadAttention)
    weak = [2, 5, 11]
    attention.in_proj_weight.data.view(3, 12, 8, 96)[:, weak] *= 1e-3
    attention.in_proj_bias.data.view(3, 12, 8)[:, weak] *= 1e-3
    attention.out_proj.weight.data.view(96, 12, 8)[:, weak] *= 1e-3
    expected = attention.in_proj_weight.detach().view(3, 12, 8, 96)[:, [0, 1, 3, 4, 6, 7, 8, 9, 10]].clone()
    # When a quarter of its heads goes
    params = PruneChannels.model_validate({"ratio": 0.25, "importance": importance, "include": [name]})
    after = prune_channels.apply(before, params, Context(calibration=SEEN)).module.get_submodule(name)
    # Then it is those
    assert isinstance(after, SelfAttention)
    assert after.num_heads == 9
    assert torch.equal(after.in_proj_weight.detach().view(3, 9, 8, 96), expected)


def test_self_attention_computes_what_torchs_own_does() -> None:
    # Given torch's own attention / When ours stands in its place / Then it answers the same
    torch.manual_seed(0)
    theirs, x = nn.MultiheadAttention(16, 4, batch_first=True).double(), torch.randn(2, 5, 16).double()
    nn.init.normal_(theirs.in_proj_bias)
    assert torch.allclose(SelfAttention.of(theirs)(x, x, x)[0], theirs(x, x, x, need_weights=False)[0])


class Crossing(nn.Module):
    """Attends to something else than itself."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 16, 8, 8), nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        seen, _ = self.attention(tokens, tokens + 1, tokens, need_weights=False)
        return seen.mean(1)


def test_attention_to_something_else_stays() -> None:
    module = Crossing().eval()
    unfuse(module, X, fixed=())
    assert isinstance(module.attention, nn.MultiheadAttention)


def test_an_edit_that_unfuses_what_is_no_attention_is_refused() -> None:
    with pytest.raises(InvalidModel, match="unfuses fc"):
        apply_edits(candidate("resnet18").module, [Unfuse(module="fc")])
