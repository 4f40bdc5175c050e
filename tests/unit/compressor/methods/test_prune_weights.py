"""Weights become zero for good, as many as were asked for."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.accuracy import answers
from compressor.measure.counting import zeros
from compressor.methods import prune_weights
from compressor.models.files import read, write
from compressor.passage import Passage, passed, rows_of
from compressor.sparsity.patterns import Pattern
from compressor.training.objectives import kl_divergence
from contract.failures import MissingData, NoLayerMatches, UnfitModel
from contract.methods.prune import PruneWeights
from contract.report import NoticeCode
from contract.value import Json
from tests.unit.compressor.methods.weights_cut import DATA, cut, small
from tests.unit.compressor.pruning.architectures import candidate
from tests.unit.compressor.small_jobs import images, trained


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
    assert (details["layers"], details["zeros"]) == (["conv1"], 0.5)


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


def test_a_layer_with_an_amount_of_its_own_must_be_there() -> None:
    # Given a misspelt layer with an amount of its own / When the step is checked
    params = PruneWeights(amount_by_layer={"fc": 0.1, "layer1.0.cnv1": 0.2})
    with pytest.raises(NoLayerMatches, match=r"matches layer1\.0\.cnv1\. Near to it: layer1\.0\.conv1") as failure:
        prune_weights.preflight(candidate("resnet18"), params)
    # Then the failure points to where it stands
    assert failure.value.errors[0].pointer == "/amount_by_layer"


@pytest.fixture(scope="module")
def learnt() -> nn.Module:
    """A network that knows four tints."""
    return trained()


def test_a_threshold_cuts_whatever_is_no_larger(learnt: nn.Module) -> None:
    # Given a bound on magnitude / When weights are cut by it
    notes: dict[str, Json] = {}
    after = cut(learnt, notes, threshold=0.02, recalibrate=False)
    # Then those within it are zero, those above are as they were, and the report's histogram shows the cut
    for name in after.masks:
        old, new = learnt.get_parameter(name), after.module.get_parameter(name)
        assert torch.equal(new, old.where(old.abs() > 0.02, 0))
    histogram = notes["histogram"]
    assert isinstance(histogram, dict)
    assert histogram["threshold"] == 0.02
    assert isinstance(histogram["after"], list)
    total = sum(mask.numel() for mask in after.masks.values())
    assert sum(int(str(n)) for n in histogram["after"]) + int(str(histogram["zeros_after"])) == total


def test_a_threshold_of_zero_masks_what_is_zero(learnt: nn.Module) -> None:
    # Given a network in which sparse training has left zeros / When a bound of 0 is cut by
    sparse = copy.deepcopy(learnt)
    for weight in sparse.parameters():
        weight.data[weight.abs() < 0.02] = 0
    after = cut(sparse, threshold=0, recalibrate=False)
    # Then they are masked, and nothing else is
    assert after.masked_count > 1000
    assert all(torch.equal(mask, sparse.get_parameter(name) != 0) for name, mask in after.masks.items())


@pytest.mark.parametrize("importance", ["l1", "gradient", "wanda", "obs"])
def test_two_of_four_inputs_stay_wherever_they_can(learnt: nn.Module, importance: str) -> None:
    # Given a network whose first convolution has three inputs / When two of every four are cut
    codes: list[NoticeCode] = []
    context = Context(calibration=DATA, notice=lambda code, detail: codes.append(code))
    params = PruneWeights.model_validate({"pattern": "2:4", "importance": importance})
    after = prune_weights.apply(small(learnt), params, context)
    # Then each group of four has two zeros, and the layer that does not fit is left alone and named
    for name in after.masks:
        weight = after.module.get_parameter(name)
        groups = (weight == 0).movedim(1, -1).reshape(-1, 4).sum(1)
        assert (groups == 2).all()
    assert "conv1.0.weight" not in after.masks
    assert codes == ["layers_left_alone"]


def test_a_layer_that_must_fit_and_does_not_is_refused_before_the_work(learnt: nn.Module) -> None:
    # Given a pattern that the first convolution does not fit / When layers must fit / Then it is named
    with pytest.raises(UnfitModel, match=r"conv1\.0 does not fit pattern 2:4") as caught:
        prune_weights.preflight(small(learnt), PruneWeights(pattern="2:4", on_unfit="fail"))
    assert caught.value.layer == "conv1.0"


@pytest.mark.parametrize("pattern", ["1x4", "4x1", "filters"])
@pytest.mark.parametrize("importance", ["l1", "obs"])
def test_blocks_and_filters_go_as_a_whole(learnt: nn.Module, pattern: str, importance: str) -> None:
    # Given a pattern / When half of its pieces go
    after = cut(learnt, pattern=pattern, importance=importance, amount=0.5, recalibrate=False)
    # Then every piece is zero as a whole or not at all, and half of each layer's are
    for name, mask in after.masks.items():
        pieces = Pattern.named(pattern).pooled(mask.float())
        assert set(pieces.unique().tolist()) <= {0.0, 1.0}
        assert abs(float(pieces.mean()) - 0.5) <= 0.5 / len(pieces)
        assert not after.module.get_parameter(name)[~mask].any()


@pytest.mark.parametrize("asked", [{"amount": 0.3}, {"count": 111_000}])
def test_filters_of_all_layers_are_as_many_weights_as_are_asked_for(learnt: nn.Module, asked: dict[str, float]) -> None:
    # Given layers whose filters have 27 to 1728 weights / When three in ten weights go, by filters of all layers
    after = cut(learnt, pattern="filters", scope="global", recalibrate=False, **asked)
    # Then as many weights are zero, to the half of a filter
    masks = after.masks.values()
    total = sum(mask.numel() for mask in masks)
    zero = sum(int((~mask).sum()) for mask in masks)
    assert abs(zero - asked.get("count", 0.3 * total)) <= 1728 / 2


def test_no_class_goes_with_the_filters(learnt: nn.Module) -> None:
    # Given a classifier, whose rows are classes / When half of all filters go
    notes: dict[str, Json] = {}
    after = cut(learnt, notes, pattern="filters", amount=0.5, recalibrate=False, on_unfit="fail")
    # Then it keeps all of them, which is no failure, and the report says so
    assert "fc.weight" not in after.masks
    assert notes["layers_left_alone"] == ["fc"]


def test_layers_of_zeros_alone_are_named(learnt: nn.Module) -> None:
    # Given a step that leaves nothing of one layer, and half of another
    notices: dict[NoticeCode, str] = {}
    params = PruneWeights(amount=0.5, include=("layer1*",), amount_by_layer={"layer1.0.conv1": 1.0})
    # When it is done
    prune_weights.apply(small(learnt), params, Context(notice=notices.__setitem__))
    # Then the first is named
    assert notices["layers_all_zero"].startswith("Every weight of layer1.0.conv1 is zero")


def test_every_output_loses_the_same_where_rows_are_compared(learnt: nn.Module) -> None:
    after = cut(learnt, importance="wanda", compare="row", amount=0.75)
    for mask in after.masks.values():
        rows = mask.flatten(1)
        assert set((~rows).sum(1).tolist()) == {round(0.75 * rows.shape[1])}


def test_small_layers_are_spared_where_the_amount_is_spread(learnt: nn.Module) -> None:
    # Given an amount spread by the layers' dimensions, and one layer with an amount of its own
    after = cut(learnt, amount=0.8, distribution="erk")
    zeros_of = {name: 1 - float(mask.float().mean()) for name, mask in after.masks.items()}
    # Then the whole has as many zeros as a uniform cut, the largest layer more, and the classifier fewer
    sizes = {name: mask.numel() for name, mask in after.masks.items()}
    total = sum(zeros_of[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert total == pytest.approx(0.8, abs=0.005)
    assert zeros_of[max(sizes, key=sizes.__getitem__)] > 0.8 > zeros_of["fc.weight"]
    own = cut(learnt, amount=0.8, amount_by_layer={"fc": 0.25})
    assert float((own.module.get_parameter("fc.weight") == 0).float().mean()) == pytest.approx(0.25, abs=0.01)


def divergence(module: nn.Module, original: nn.Module) -> float:
    """How far the answers are from the original's, on images that nothing was chosen by."""
    fresh = images(128, seed=11)
    return float(kl_divergence(answers(module, fresh), answers(original, fresh), temperature=1.0))


def test_surgery_and_statistics_keep_the_answers(learnt: nn.Module) -> None:
    # Given a network of which seven weights in ten go, without training
    # When they are chosen by magnitude, and by their effect on the output
    notes: dict[str, Json] = {}
    bare = divergence(cut(learnt, amount=0.7, recalibrate=False).module, learnt)
    measured = divergence(cut(learnt, amount=0.7).module, learnt)
    operated = divergence(cut(learnt, notes, amount=0.7, importance="obs").module, learnt)
    # Then fresh statistics keep more of the answers, and surgery much more
    assert operated < 0.5 * measured < 0.5 * bare
    # And the report tells what each layer has lost
    errors = notes["output_error"]
    assert isinstance(errors, dict)
    assert all(0 <= float(str(error)) < 1 for error in errors.values())


def test_a_layer_makes_up_for_what_those_before_it_have_lost(learnt: nn.Module) -> None:
    # Given a network of which most weights go, by surgery
    notes: dict[str, Json] = {}
    pruned = cut(learnt, notes, amount=0.8, importance="obs", recalibrate=False).module
    # When what each layer gives out is compared with what it gave in the network as it was
    told = notes["output_error"]
    assert isinstance(told, dict)
    lost = {name: apart(pruned, learnt, name) for name in told if passage(learnt, name).beside is None}
    # Then the report has told just that, and not what the layer has lost by itself, where that is all it aims at
    assert len(lost) > 5
    assert {name: float(str(told[name])) for name in lost} == pytest.approx(lost, rel=0.25)


def apart(network: nn.Module, original: nn.Module, name: str) -> float:
    """How far a layer's outputs are apart in two networks; a part of those of the second, or of their variance."""
    layer = original.get_submodule(name)
    made, wanted = (rows_of(layer, passage(module, name).gave) for module in (network, original))
    whole = wanted if layer.bias is None else wanted - wanted.mean(0)
    return float((made - wanted).square().sum() / whole.square().sum())


def passage(network: nn.Module, name: str) -> Passage:
    """What becomes of all images at a layer."""
    x = next(DATA.batches(len(DATA.labels), device=torch.device("cpu"))).x
    found = passed(network, network.get_submodule(name), x)
    assert found is not None
    return found


def test_surgery_leaves_the_statistics_to_which_it_has_fitted_the_layers(learnt: nn.Module) -> None:
    # Given a network with batch normalization / When weights go by surgery, and by magnitude
    operated, dropped = (cut(learnt, amount=0.7, importance=how).module for how in ("obs", "l1"))
    # Then its statistics stay, and follow what has changed
    before = {name: value for name, value in learnt.state_dict().items() if "running" in name}
    assert before
    assert all(torch.equal(value, operated.state_dict()[name]) for name, value in before.items())
    assert not any(torch.equal(value, dropped.state_dict()[name]) for name, value in before.items())


def test_surgery_spreads_an_amount_over_layers_by_magnitude(learnt: nn.Module) -> None:
    # Given all weights ranked together / When the cut is by surgery
    by_magnitude = cut(learnt, amount=0.8, scope="global")
    operated = cut(learnt, amount=0.8, scope="global", importance="obs")
    # Then each layer loses about as many as a ranking by magnitude takes from it
    for name, mask in by_magnitude.masks.items():
        assert float(operated.masks[name].float().mean()) == pytest.approx(float(mask.float().mean()), abs=0.02)


def test_surgery_leaves_layers_alone_that_see_too_much() -> None:
    # Given a layer with 8,192 inputs, the products of which are too many to keep
    wide = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 32 * 32, 4)).eval()
    # When it must fit, then it is refused before the work
    with pytest.raises(UnfitModel, match="3 does not fit importance obs"):
        prune_weights.preflight(small(wide), PruneWeights(importance="obs", on_unfit="fail"))
    # And where it may be skipped, it is left alone and named
    notes: dict[str, Json] = {}
    after = cut(wide, notes, importance="obs")
    assert (notes["layers"], notes["layers_left_alone"]) == (["0"], ["3"])
    assert torch.equal(after.module.get_parameter("3.weight"), wide.get_parameter("3.weight"))
    # And an importance that needs no products prunes it
    assert cut(wide, importance="wanda").masks.keys() == {"0.weight", "3.weight"}


@pytest.mark.parametrize("importance", ["gradient", "wanda", "obs"])
def test_without_images_it_says_what_is_missing(learnt: nn.Module, importance: str) -> None:
    params = PruneWeights.model_validate({"importance": importance})
    with pytest.raises(MissingData, match="needs images"):
        prune_weights.apply(small(learnt), params, Context())
