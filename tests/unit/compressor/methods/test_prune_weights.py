"""Weights become zero for good, as many as were asked for."""

from pathlib import Path

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.counting import zeros
from compressor.methods import prune_weights
from compressor.models.files import read, write
from contract.failures import NoLayerMatches, UnfitModel
from contract.methods.prune import PruneWeights
from contract.value import Json
from tests.unit.compressor.pruning.architectures import candidate


def pruned(before: Candidate, params: PruneWeights, *, seed: int = 0) -> Candidate:
    return prune_weights.apply(before, params, Context(seed=seed))


def zeros_in(candidate: Candidate, layer: str) -> int:
    return int((candidate.module.get_parameter(f"{layer}.weight") == 0).sum())


def size_of(candidate: Candidate, layer: str) -> int:
    return candidate.module.get_parameter(f"{layer}.weight").numel()


def test_half_of_one_layer_alone() -> None:
    # Given: a ResNet-18
    details: dict[str, Json] = {}
    before = candidate("resnet18")
    magnitudes = before.module.get_parameter("conv1.weight").detach().abs().clone()

    # When: half of the weights of conv1 are pruned by magnitude
    context = Context(record=details.__setitem__)
    after = prune_weights.apply(before, PruneWeights(include=("conv1",), amount=0.5), context)

    # Then: exactly half of them are zero, the smaller half, and nothing else was touched
    weight = after.module.get_parameter("conv1.weight")
    assert zeros_in(after, "conv1") == weight.numel() // 2
    assert magnitudes[weight == 0].max() <= magnitudes[weight != 0].min()
    assert list(after.masks) == ["conv1.weight"]
    assert zeros_in(after, "layer1.0.conv1") == 0
    assert details == {"layers": ["conv1"], "zeros": 0.5}


@pytest.mark.parametrize("importance", ["l1", "random"])
def test_scope_layer_takes_the_same_part_of_every_layer(importance: str) -> None:
    # Given, when: three quarters of every layer
    params = PruneWeights.model_validate({"importance": importance, "amount": 0.75})
    after = pruned(candidate("squeezenet1_1"), params)

    # Then: each has them, within one weight
    for name, mask in after.masks.items():
        weight = after.module.get_parameter(name)
        assert abs(int((weight == 0).sum()) - 0.75 * weight.numel()) <= 1
        assert torch.equal(weight != 0, mask)
    assert zeros(after.module) == pytest.approx(0.75, abs=1e-3)


def test_scope_global_ranks_all_weights_together() -> None:
    # Given: a network with one layer of small weights
    before = candidate("resnet18")
    before.module.get_parameter("layer4.1.conv1.weight").data *= 1e-3

    # When: a quarter of all weights are pruned
    after = pruned(before, PruneWeights(amount=0.25, scope="global"))

    # Then: that layer is gone, another hardly touched, and the whole has a quarter of zeros
    assert zeros_in(after, "layer4.1.conv1") == size_of(after, "layer4.1.conv1")
    assert zeros_in(after, "conv1") < 0.2 * size_of(after, "conv1")
    assert zeros(after.module) == pytest.approx(0.25, abs=1e-6)


def test_a_count_is_for_each_layer_or_for_all() -> None:
    # Given, when: a hundred weights, once in each layer and once in all
    each = pruned(candidate("resnet18"), PruneWeights(count=100))
    total = pruned(candidate("resnet18"), PruneWeights(count=100, scope="global"))

    # Then: so many are zero
    assert {zeros_in(each, name.removesuffix(".weight")) for name in each.masks} == {100}
    assert sum(zeros_in(total, name.removesuffix(".weight")) for name in total.masks) == 100


def test_more_weights_than_a_layer_has_are_refused_early() -> None:
    # Given: a count above the size of the smallest layer
    before, params = candidate("resnet18"), PruneWeights(count=6000)

    # When, then: preflight names the layer
    with pytest.raises(UnfitModel, match=r"fc\.weight has 5120 weights, so 6000 cannot become zero"):
        prune_weights.preflight(before, params)


def test_what_is_masked_counts_and_stays_masked() -> None:
    # Given: a network with a third of its weights pruned at random
    first = pruned(candidate("resnet18"), PruneWeights(importance="random", amount=1 / 3), seed=1)
    earlier = {name: mask.clone() for name, mask in first.masks.items()}

    # When: half shall be zero, and then a tenth
    second = pruned(first, PruneWeights(importance="random", amount=0.5), seed=2)
    third = pruned(second, PruneWeights(amount=0.1))

    # Then: half is zero, with what was before among it, and asking for less takes nothing back
    assert zeros(third.module) == pytest.approx(0.5, abs=1e-4)
    assert all(not (third.masks[name] & ~mask).any() for name, mask in earlier.items())


def test_chance_follows_from_the_seed() -> None:
    # Given, when: the same random pruning with two seeds
    params = PruneWeights(importance="random", include=("conv1",))
    one, same, other = (pruned(candidate("resnet18"), params, seed=s).masks["conv1.weight"] for s in (5, 5, 6))

    # Then: equal seeds choose equal weights, and the global generator has no part in it
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_projections_of_attention_are_weights_too() -> None:
    # Given, when: the attention of one block
    attention = "encoder.layers.encoder_layer_3.self_attention"
    after = pruned(candidate("vit_b_32"), PruneWeights(include=(attention,)))

    # Then: its bare projection is pruned with its output layer
    assert set(after.masks) == {f"{attention}.in_proj_weight", f"{attention}.out_proj.weight"}
    projection = after.module.get_parameter(f"{attention}.in_proj_weight")
    assert int((projection == 0).sum()) == projection.numel() // 2


def test_masks_outlive_the_files(tmp_path: Path) -> None:
    # Given: a pruned network
    after = pruned(candidate("squeezenet1_1"), PruneWeights())

    # When: it is written and read
    write(after, tmp_path)
    again = read(tmp_path)

    # Then: the same weights are masked
    assert again.masks.keys() == after.masks.keys()
    assert all(torch.equal(again.masks[name], mask) for name, mask in after.masks.items())


def test_a_pattern_that_means_nothing_fails_early() -> None:
    # Given, when, then: no layer of that name
    with pytest.raises(NoLayerMatches, match="conv1"):
        prune_weights.preflight(candidate("resnet18"), PruneWeights(include=("cnv1",)))
