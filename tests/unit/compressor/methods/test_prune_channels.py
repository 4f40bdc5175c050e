"""Channels are removed for good: every dimension shrinks, and the network can be rebuilt."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.counting import count_macs, count_parameters
from compressor.methods import prune_channels, prune_weights
from compressor.models.files import read, write
from contract.failures import NoLayerMatches, UnfitModel
from contract.methods.prune import PruneChannels, PruneWeights
from contract.report import NoticeCode
from contract.value import Json
from tests.unit.compressor.pruning.architectures import UNLIKE, candidate, images


class Notes:
    """What a step has said."""

    def __init__(self) -> None:
        self.details: dict[str, Json] = {}
        self.notices: dict[NoticeCode, str] = {}

    def context(self) -> Context:
        return Context(record=self.details.__setitem__, notice=self.notices.__setitem__)


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

    # When: half of its channels are removed
    after = pruned(before)

    # Then: it is smaller and cheaper, answers with as many finite logits, and model.json rebuilds it
    x = images(2, UNLIKE[name])
    answer = answers(after.module, x)
    assert answer.shape == (2, 10)
    assert answer.isfinite().all()
    assert count_parameters(after.module) <= 0.8 * parameters
    assert count_macs(after.module, after.input_shape).total <= 0.9 * macs.total
    write(after, tmp_path)
    assert torch.equal(answers(read(tmp_path).module, x), answer)


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
    assert notes.details["layers_left_alone"] == ["fc"]
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


def test_attention_keeps_its_widths_and_the_report_says_why() -> None:
    # Given: a vision transformer
    notes = Notes()

    # When: half of its channels shall go
    prune_channels.apply(candidate("vit_b_32"), PruneChannels(), notes.context())

    # Then: the hidden widths of its MLPs went
    expected = {f"encoder.layers.encoder_layer_{i}.mlp.0": [3072, 1536] for i in range(12)}
    assert notes.details["channels"] == expected
    assert "26 of 38 layers keep their widths" in notes.notices["layers_left_alone"]


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


def test_nothing_to_remove_is_a_failure() -> None:
    # Given: patterns that mean the classifier only
    params = PruneChannels(include=("fc",))

    # When, then: the step fails, as its report would be empty
    with pytest.raises(UnfitModel, match="No channel can be removed"):
        pruned(candidate("resnet18"), params)
