"""Channels are removed for good: every dimension shrinks, and the network can be rebuilt."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.exports import onnx
from compressor.measure.counting import count_macs, count_parameters
from compressor.methods import prune_channels, prune_weights
from compressor.models.files import read, write
from compressor.training.normalization import recalibrate
from contract.failures import MissingData, NoLayerMatches, UnfitModel
from contract.methods.prune import PruneChannels, PruneWeights
from contract.value import Json
from tests.unit.compressor import small_jobs
from tests.unit.compressor.methods.channels_gone import Notes, by_macs
from tests.unit.compressor.networks import onnx_answers
from tests.unit.compressor.pruning.architectures import UNLIKE, candidate, images
from tests.unit.compressor.pruning.plain import IMAGES, Plain, plain
from tests.unit.compressor.small_jobs import trained_candidate


def pruned(before: Candidate, params: PruneChannels | None = None) -> Candidate:
    return prune_channels.apply(before, params or PruneChannels(), Context())


def answers(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = module.eval()(x)
    return result


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_architectures_shrink_and_can_be_rebuilt(name: str, tmp_path: Path) -> None:
    # Given: a network as it comes
    before = candidate(name, side=UNLIKE[name])
    parameters, macs = count_parameters(before.module), count_macs(before.module, before.input_shape)

    # When: channels are removed
    after = pruned(before, PruneChannels(ratio=0.3))

    # Then: it is smaller and cheaper, answers with as many finite logits, and model.json rebuilds it
    x = images(2, UNLIKE[name])
    answer = answers(after.module, x)
    assert answer.shape == (2, 10)
    assert answer.isfinite().all()
    assert count_parameters(after.module) <= 0.82 * parameters
    assert count_macs(after.module, after.input_shape).total <= 0.92 * macs.total
    write(after, tmp_path)
    assert torch.equal(answers(read(tmp_path).module, x), answer)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small", "vit_b_32"])
def test_onnx_runtime_answers_as_what_is_left(name: str, tmp_path: Path) -> None:
    # Given: a network with shuffled channels, with gates, or with heads
    after = pruned(candidate(name, side=UNLIKE[name]), PruneChannels(ratio=0.3))
    x = images(2, UNLIKE[name])
    answer = answers(after.module, x)
    # When: what is left of it is written as ONNX / Then: the runtime answers the same
    found = onnx_answers(onnx.export(after, tmp_path / "model.onnx"), x)
    assert torch.allclose(found, answer, rtol=0, atol=1e-3 * float(answer.abs().max()))


def test_resnet_is_halved_in_every_layer_but_the_classifier() -> None:
    # Given: a ResNet-18 in which no stage has trained for anything
    notes = Notes()

    # When: half of its channels are removed
    after = prune_channels.apply(candidate("resnet18"), PruneChannels(), notes.context())

    # Then: every convolution has half of them, the classifier its ten, and the report says so
    fc = after.module.get_submodule("fc")
    assert isinstance(fc, nn.Linear)
    assert (fc.in_features, fc.out_features) == (256, 10)
    assert notes.details["channels"]["conv1"] == [64, 32]  # type: ignore[call-overload, index]
    assert len(notes.details["channels"]) == 20  # type: ignore[arg-type]
    reason = "the output, or what rearranges channels, takes all of them"
    assert notes.details["layers_left_alone"] == {"fc": reason}
    assert not notes.notices


def test_scope_global_takes_more_where_less_is_worth() -> None:
    # Given: a layer of which three quarters of the channels are worth next to nothing
    before = candidate("resnet18")
    before.module.get_parameter("layer3.0.conv1.weight").data[:192] *= 1e-3

    # When: channels are ranked over the whole network
    after = pruned(before, PruneChannels(ratio=0.2, scope="global"))

    # Then: that layer loses three quarters or more of them, another much less
    narrow, other = (after.module.get_submodule(f"layer3.{i}.conv1") for i in (0, 1))
    assert isinstance(narrow, nn.Conv2d)
    assert isinstance(other, nn.Conv2d)
    assert narrow.out_channels <= 64
    assert other.out_channels >= 160


@pytest.mark.parametrize("round_to", [1, 8, 32])
def test_channels_stay_multiples_of_round_to(round_to: int) -> None:
    # Given: a network of which a third of any width is no multiple of much
    notes = Notes()

    # When: a third of its channels are removed
    params = PruneChannels(ratio=1 / 3, round_to=round_to)
    prune_channels.apply(candidate("mobilenet_v2"), params, notes.context())

    # Then: every new width is a multiple, and the nearest one
    widths = notes.details["channels"]
    assert isinstance(widths, dict)
    assert len(widths) > 10
    for before, after in widths.values():  # type: ignore[misc, union-attr]
        assert after % round_to == 0  # type: ignore[operator]
        assert abs(after - before * 2 / 3) <= round_to / 2 or after == round_to  # type: ignore[operator]


def test_excluded_layers_and_what_is_tied_to_them_keep_their_widths() -> None:
    # Given: a ResNet-18, in which conv1 and the second convolutions of layer1 add up
    notes = Notes()

    # When: one block is left out
    params = PruneChannels(include=("conv1", "layer1", "layer2"), exclude=("layer1.1",))
    prune_channels.apply(candidate("resnet18"), params, notes.context())

    # Then: only what neither it nor the rest of the network shares is narrower
    second = {"layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv1", "layer2.1.conv2"}
    assert set(notes.details["channels"]) == {"layer1.0.conv1", *second}  # type: ignore[arg-type]


def test_the_report_says_which_layers_keep_their_widths_and_why() -> None:
    # Given: a vision transformer
    notes = Notes()

    # When: half of its channels shall go
    prune_channels.apply(candidate("vit_b_32"), PruneChannels(), notes.context())

    # Then: the hidden widths of its MLPs went, and half of the heads, but not the width of the embedding
    expected = {f"encoder.layers.encoder_layer_{i}.mlp.0": [3072, 1536] for i in range(12)}
    assert notes.details["channels"] == expected
    assert len(notes.details["heads"]) == 12  # type: ignore[arg-type]
    assert "26 of 38 layers keep their widths" in notes.notices["layers_left_alone"]


def test_the_report_tells_what_the_channels_of_each_layer_are_worth() -> None:
    # Given: a layer whose scales are known
    before, notes = plain(), Notes()
    before.module.get_parameter("norm.weight").data = torch.linspace(0.1, 0.8, 8)

    # When: a quarter of its channels goes
    params = PruneChannels(ratio=0.25, importance="bn_scale", round_to=1)
    prune_channels.apply(before, params, notes.context())

    # Then: least, quartiles and most are told as they were
    assert notes.details["importance"] == {"first": [0.1, 0.275, 0.45, 0.625, 0.8]}


@pytest.mark.parametrize(("round_to", "left"), [(1, 3), (4, 4)])
def test_a_threshold_takes_what_is_worth_no_more(round_to: int, left: int) -> None:
    # Given: scales of which five are at most 0.5
    before = plain()
    scales = torch.tensor([0.9, 0.1, 0.5, 0.7, 0.2, 0.3, 0.8, 0.4])
    before.module.get_parameter("norm.weight").data = scales.clone()

    # When: channels below that go
    params = PruneChannels(threshold=0.5, importance="bn_scale", round_to=round_to)
    after = pruned(before, params)

    # Then: the others stay, with so many of the best of the rest that a multiple is left
    expected = scales[scales.argsort(descending=True)[:left].sort().values]
    assert torch.equal(after.module.get_parameter("norm.weight"), expected)


def test_a_threshold_above_all_names_the_layer_that_would_be_empty() -> None:
    before = plain()
    before.module.get_parameter("norm.weight").data = torch.linspace(0.1, 0.8, 8)
    with pytest.raises(UnfitModel, match=r"Nothing would be left of first: .* worth 0\.8 at most") as failure:
        pruned(before, PruneChannels(threshold=0.9, importance="bn_scale"))
    assert failure.value.layer == "first"


def test_a_layer_whose_channels_are_worth_nothing_is_not_helped_by_a_threshold() -> None:
    # Given: scales that are all zero
    before = plain()
    before.module.get_parameter("norm.weight").data.zero_()

    # When: what is worth nothing goes / Then: the failure does not ask for less than nothing
    with pytest.raises(UnfitModel, match="Choose another importance, or exclude the layer"):
        pruned(before, PruneChannels(threshold=0.1, importance="bn_scale"))


def test_a_part_of_the_time_is_met_with_the_least_ratio_that_does() -> None:
    # Given: a machine
    before, notes = candidate("resnet18"), Notes()
    macs = count_macs(before.module, before.input_shape).total

    # When: half of the time shall be left
    after = prune_channels.apply(before, PruneChannels(latency_ratio=0.5), replace(notes.context(), time=by_macs))

    # Then: no more is left, with the next smaller ratio more would be, and the report says which it was
    ratio = notes.details["ratio"]
    assert isinstance(ratio, float)
    assert count_macs(after.module, after.input_shape).total / macs == notes.details["latency_left"] <= 0.5  # type: ignore[operator]
    looser = pruned(candidate("resnet18"), PruneChannels(ratio=ratio - 0.05))
    assert count_macs(looser.module, looser.input_shape).total / macs > 0.5


def test_a_part_of_the_time_that_cannot_be_met_tells_how_far_it_goes() -> None:
    context = replace(Notes().context(), time=lambda candidates: (1.0,) * len(candidates))
    with pytest.raises(UnfitModel, match=r"latency_ratio of 0\.5 cannot be met: .* 1\.000 of the time is left"):
        prune_channels.apply(plain(), PruneChannels(latency_ratio=0.5), context)


def test_statistics_are_measured_on_no_more_images_than_they_need() -> None:
    # Given more images than tell the statistics well, as where training data stands in for calibration data
    noise = torch.randn(1300, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    many = Images(noise, torch.zeros(1300, dtype=torch.long), IMAGES.preprocessing)

    # When: channels go, and statistics are measured anew
    params = PruneChannels(reconstruct=False, round_to=1)
    after = prune_channels.apply(plain(), params, Context(calibration=many, seed=3))

    # Then: they are those of some of them
    found = after.module.get_buffer("norm.running_mean").clone()
    recalibrate(after.module, many.take(1024, seed=3), device=torch.device("cpu"))
    assert torch.equal(found, after.module.get_buffer("norm.running_mean"))


def test_masks_are_sliced_with_their_weights() -> None:
    # Given: a network with pruned weights, and a zero that nobody has pruned in a channel that stays
    masked = prune_weights.apply(candidate("resnet18"), PruneWeights(), Context())
    weight, mask = masked.module.get_parameter("conv1.weight").data, masked.masks["conv1.weight"]
    weight[0, 0], mask[0, 0] = 10.0, True
    weight[0, 0, 0, 0] = 0

    # When: channels are removed
    after = pruned(masked)

    # Then: masks have the weights' new shapes, and are false exactly where a weight is pruned
    assert set(after.masks) == set(masked.masks)
    for name, mask in after.masks.items():
        weight = after.module.get_parameter(name)
        assert mask.shape == weight.shape
        assert not weight[~mask].any()
        assert not weight.isnan().any()
    unpruned_zeros = sum(int((after.module.get_parameter(n)[mask] == 0).sum()) for n, mask in after.masks.items())
    assert unpruned_zeros == 1
    assert 0.2 < 1 - after.masks["layer4.1.conv1.weight"].float().mean() < 0.5


def test_the_same_network_gives_the_same_weights() -> None:
    # Given, when: the same pruning twice
    first, second = (pruned(candidate("shufflenet_v2_x0_5"), PruneChannels(scope="global")) for _ in range(2))

    # Then: no number differs
    assert first.edits == second.edits
    for one, other in zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_every_part_trains_or_not_as_before() -> None:
    # Given: a network in training of which a part stands still
    before = candidate("resnet18")
    before.module.train()
    before.module.get_submodule("bn1").eval()
    before.module.get_parameter("conv1.weight").requires_grad_(False)

    # When: channels are removed
    after = pruned(before)

    # Then: the same part stands still, statistics are as narrow as the layer, and a step of training runs
    bn1, layer1 = after.module.get_submodule("bn1"), after.module.get_submodule("layer1")
    assert (bn1.training, layer1.training) == (False, True)
    assert bn1.get_buffer("running_mean").shape == (32,)
    assert [n for n, p in after.module.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    after.module(images(2, 64)).sum().backward()


def test_pruning_can_be_repeated(tmp_path: Path) -> None:
    # Given: a pruned network
    once = pruned(candidate("mobilenet_v3_small"), PruneChannels(ratio=0.3))

    # When: it is pruned again
    twice = pruned(once, PruneChannels(ratio=0.3, importance="l1"))

    # Then: it is smaller again, and the edits of both rebuild it
    assert count_parameters(twice.module) < 0.7 * count_parameters(once.module)
    write(twice, tmp_path)
    assert count_parameters(read(tmp_path).module) == count_parameters(twice.module)


def test_a_pattern_that_means_nothing_is_said_before_anything_is_done() -> None:
    # Given: a misspelt pattern
    params = PruneChannels(include=("layr1.*",))

    # When: the step is checked
    with pytest.raises(NoLayerMatches, match="Near to it: layer") as failure:
        prune_channels.preflight(candidate("resnet18"), params)

    # Then: the failure points to it
    assert failure.value.errors[0].pointer == "/include"


def test_a_layer_with_a_ratio_of_its_own_must_be_there() -> None:
    # Given a misspelt layer with a ratio of its own / When the step is checked
    params = PruneChannels(ratio_by_layer={"conv1": 0.1, "layer1.0.cnv1": 0.2})
    with pytest.raises(NoLayerMatches, match=r"matches layer1\.0\.cnv1\. Near to it: layer1\.0\.conv1") as failure:
        prune_channels.preflight(candidate("resnet18"), params)
    # Then the failure points to where it stands
    assert failure.value.errors[0].pointer == "/ratio_by_layer"


def test_nothing_to_remove_is_a_failure() -> None:
    # Given: patterns that mean the classifier only
    params = PruneChannels(include=("fc",))

    # When, then: the step fails, as its report would be empty, and says of which layer and why
    with pytest.raises(UnfitModel, match=r"No channel can be removed .* mean: fc, because the output") as failure:
        pruned(candidate("resnet18"), params)
    assert failure.value.layer == "fc"


def test_each_layer_that_stays_has_its_reason() -> None:
    # Given: a ResNet-18, one of whose layers is left out, and steps as wide as the first ones
    notes = Notes()

    # When: channels are removed
    params = PruneChannels(exclude=("layer1.1.conv2",), round_to=128)
    prune_channels.apply(candidate("resnet18"), params, notes.context())

    # Then: what shares that layer's channels, what is too narrow and what the output needs stay, each for its reason
    left = notes.details["layers_left_alone"]
    assert isinstance(left, dict)
    assert "left alone" in str(left["conv1"])
    assert left["layer1.0.conv1"] == "it is too narrow for round_to 128"
    assert "output" in str(left["fc"])


#: By name: whether a network's channels lie in fine enough groups to meet a target to 1 %.
FINE = ["resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0", "regnet_y_400mf", "squeezenet1_1"]


@pytest.mark.parametrize("target", ["macs_ratio", "parameters_ratio"])
@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_target_is_met_to_one_percent_and_not_exceeded(name: str, target: str, scope: str) -> None:
    # Given a network / When as many channels go as leave 40 %, one by one
    before, notes = candidate(name), Notes()
    counts = count_macs(before.module, before.input_shape).total, count_parameters(before.module)
    params = PruneChannels.model_validate({target: 0.4, "round_to": 1, "scope": scope})
    after = prune_channels.apply(before, params, notes.context())
    # Then what is counted again is no more than that, and hardly less; and the report says so
    left = {
        "macs_ratio": count_macs(after.module, after.input_shape).total / counts[0],
        "parameters_ratio": count_parameters(after.module) / counts[1],
    }
    assert 0.39 <= left[target] <= 0.4
    assert notes.details["macs_left"] == left["macs_ratio"]
    assert notes.details["parameters_left"] == left["parameters_ratio"]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_32"])
def test_in_steps_of_eight_what_there_is_room_for_is_given_back(name: str, scope: str) -> None:
    # Given a target that multiples of 8 do not meet
    before = candidate(name)
    macs = count_macs(before.module, before.input_shape).total
    # When channels go in steps of 8
    after = pruned(before, PruneChannels.model_validate({"macs_ratio": 0.5, "scope": scope}))
    # Then no more is left, and hardly less
    assert 0.495 <= count_macs(after.module, after.input_shape).total / macs <= 0.5
    convolutions = [part for part in after.module.modules() if isinstance(part, nn.Conv2d)]
    assert all(part.out_channels % 8 == 0 for part in convolutions)


def test_what_has_a_ratio_of_its_own_gets_nothing_back() -> None:
    # Given a target, and a layer that shall lose three quarters / When there is room
    params = PruneChannels(macs_ratio=0.9, ratio_by_layer={"layer4.0.conv1": 0.75})
    after = pruned(candidate("resnet18"), params)
    # Then the others have it
    layer = after.module.get_submodule("layer4.0.conv1")
    assert isinstance(layer, nn.Conv2d)
    assert layer.out_channels == 128


def test_a_target_that_cannot_be_met_tells_how_far_it_goes() -> None:
    # Given a target for a part of the network alone / When it asks for more than that part has / Then it is refused
    params = PruneChannels(macs_ratio=0.1, include=("layer1",))
    with pytest.raises(UnfitModel, match=r"macs_ratio of 0\.1 cannot be met: .* 0\.\d+ of them are left"):
        pruned(candidate("resnet18"), params)


def test_a_glob_gives_its_layers_a_ratio_of_their_own() -> None:
    # Given a network / When one block is to lose nothing, and another much
    params = PruneChannels(ratio=0.5, ratio_by_layer={"layer1.*.conv1": 0.0, "layer4.*.conv1": 0.75}, round_to=1)
    after = pruned(candidate("resnet18"), params)
    # Then each has its own, and the rest the step's
    widths = {
        name: part.out_channels
        for name, part in after.module.named_modules()
        if isinstance(part, nn.Conv2d) and name.endswith("conv1") and name != "conv1"
    }
    assert {widths["layer1.0.conv1"], widths["layer1.1.conv1"]} == {64}
    assert {widths["layer2.0.conv1"], widths["layer3.1.conv1"]} == {64, 128}
    assert {widths["layer4.0.conv1"], widths["layer4.1.conv1"]} == {128}


def test_of_layers_that_share_their_channels_the_smallest_ratio_counts() -> None:
    # Given layers that add up, another of which is found first / When two of them have ratios of their own
    ratios = {"layer1.0.conv2": 0.75, "layer1.1.conv2": 0.25, "layer2.1": 0.0}
    after = pruned(candidate("resnet18"), PruneChannels(ratio=0.5, ratio_by_layer=ratios, round_to=1))
    # Then all of them lose the smallest, and a block loses nothing where it adds up either
    sharing = ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1")
    widths = [after.module.get_submodule(name).out_channels for name in sharing]
    assert widths == [48, 48, 48, 64, 128, 128]


def test_layers_of_the_same_structure_are_ranked_together() -> None:
    # Given a network with one weak inner layer among others like it
    before = candidate("resnet18")
    for name in ("layer4.1.conv1.weight", "layer4.1.bn1.weight"):
        before.module.get_parameter(name).data *= 1e-2
    # When a quarter of the channels goes
    after = pruned(before, PruneChannels(ratio=0.25, scope="isomorphic", round_to=1))
    # Then that layer loses more than its like, and those of other structures lose as many as they would anyway
    weak, like = (after.module.get_submodule(f"layer{n}.1.conv1") for n in (4, 3))
    assert isinstance(weak, nn.Conv2d)
    assert isinstance(like, nn.Conv2d)
    assert weak.out_channels / 512 <= like.out_channels / 256


def test_what_is_left_makes_up_for_what_has_gone() -> None:
    # Given a trained network, and images without a look at their labels
    before, seen = trained_candidate(), small_jobs.images(96, seed=2)
    unlabelled = Images(seen.pixels, torch.zeros_like(seen.labels), seen.preprocessing)

    def lost(*, reconstruct: bool) -> tuple[float, dict[str, Json]]:
        notes = Notes()
        context = replace(notes.context(), calibration=unlabelled)
        params = PruneChannels(ratio=0.3, reconstruct=reconstruct)
        after = prune_channels.apply(before.copied(), params, context)
        x = next(iter(small_jobs.images(200, seed=1).batches(200))).x
        wanted, given = (answers(module, x).log_softmax(1) for module in (before.module, after.module))
        return float(nn.functional.kl_div(given, wanted, log_target=True, reduction="batchmean")), notes.details

    # When channels go, with and without a fit of the rest
    (with_fit, told), (without, untold) = lost(reconstruct=True), lost(reconstruct=False)
    # Then the answers move much less, and the report says by how much the error of each layer's output fell
    assert with_fit < 0.5 * without
    errors = told["output_error"]
    assert isinstance(errors, dict)
    assert len(errors) > 5
    assert all(after <= before for before, after in errors.values())  # type: ignore[misc, operator, union-attr]
    assert "output_error" not in untold


def test_masks_hold_while_the_rest_is_fitted() -> None:
    # Given a network with pruned weights / When channels go, and what is left is fitted
    masked = prune_weights.apply(trained_candidate(), PruneWeights(amount=0.3), Context())
    after = prune_channels.apply(masked, PruneChannels(ratio=0.3), Context(calibration=small_jobs.images(32, seed=2)))
    # Then what was pruned is zero
    assert after.masked_count > 1000
    for name, mask in after.masks.items():
        assert not after.module.get_parameter(name)[~mask].any()


class Padded(nn.Conv2d):
    """A layer that does more than multiply, so that it cannot be fitted."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


@pytest.mark.parametrize(("fits", "anew"), [("not asked for", True), ("all", False), ("none", True)])
def test_statistics_are_measured_anew_where_not_all_is_fitted(fits: str, anew: bool) -> None:
    # Given images, and a network that can be fitted or not / When channels go
    before = plain()
    if fits == "none":
        before.module.second = Padded(8, 4, 1, bias=False)
    params = PruneChannels(round_to=1, reconstruct=fits != "not asked for")
    after = prune_channels.apply(before, params, Context(calibration=IMAGES)).module
    # Then the statistics are those of what the narrower layers give out, or those that were there
    assert isinstance(after, Plain)
    with torch.no_grad():
        inner = after.first(IMAGES.pixels).transpose(0, 1).flatten(1)
    assert after.norm.running_mean is not None
    expected = inner.mean(1) if anew else torch.zeros(4)
    assert torch.allclose(after.norm.running_mean, expected, atol=1e-5)


@pytest.mark.parametrize("importance", ["taylor", "hessian", "fisher", "obs", "activation"])
def test_without_images_it_says_what_is_missing(importance: str) -> None:
    with pytest.raises(MissingData, match="needs images"):
        pruned(plain(), PruneChannels.model_validate({"importance": importance}))
