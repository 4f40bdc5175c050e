"""Depth pruning: residual blocks are found, ranked, removed, told and rebuilt."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.accuracy import answers
from compressor.measure.counting import count_macs, count_parameters
from compressor.measure.fidelity import divergence
from compressor.methods import distill, prune_blocks
from compressor.models import files
from compressor.models.architectures import build
from compressor.models.edits import Remove
from compressor.pruning.blocks import by_output, removable_blocks, without
from contract.failures import MissingData, NoLayerMatches, UnfitModel
from contract.methods.depth import PruneBlocks
from contract.methods.distill import Distill
from contract.model import Architecture, Preprocessing
from contract.value import Json
from tests.unit.compressor.networks import Residual
from tests.unit.compressor.small_jobs import images, trained_candidate

RESNET = Architecture(name="resnet18", options={"num_classes": 4})
BLOCKS = ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]
SMALL = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CPU = torch.device("cpu")
DATA = images(24, seed=2)


def resnet() -> Candidate:
    return Candidate(module=build(RESNET, seed=0).eval(), architecture=RESNET, preprocessing=SMALL, num_classes=4)


def applied(params: PruneBlocks, candidate: Candidate, notes: dict[str, Json]) -> Candidate:
    return prune_blocks.apply(candidate, params, Context(calibration=DATA, record=notes.__setitem__))


@pytest.mark.parametrize(
    ("name", "side", "blocks"),
    [
        ("resnet18", 32, BLOCKS),
        ("mobilenet_v2", 32, [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]),
        ("mobilenet_v3_small", 32, [f"features.{i}" for i in (3, 5, 6, 8, 10, 11)]),
        ("convnext_tiny", 32, [f"features.{i}.{k}" for i, n in ((1, 3), (3, 3), (5, 9), (7, 3)) for k in range(n)]),
        ("squeezenet1_1", 32, []),
        ("densenet121", 32, []),
    ],
)
def test_blocks_are_what_does_nothing_with_zeros_for_weights(name: str, side: int, blocks: list[str]) -> None:
    # Given a network with residual blocks, or with none / When it is looked at / Then those that keep shapes are found
    module = build(Architecture(name=name), seed=0).eval()
    assert list(removable_blocks(module, (3, side, side))) == blocks


def test_blocks_of_attention_are_found_too() -> None:
    # Given a vision transformer / When it is looked at / Then each encoder layer is a block
    tiny = Architecture(library="timm", name="test_vit", options={"num_classes": 4})
    found = removable_blocks(build(tiny).eval(), (3, 160, 160))
    assert found
    assert all(name.startswith("blocks.") and name.count(".") == 1 for name in found)


@pytest.mark.parametrize("importance", ["output", "fidelity", "l1"])
def test_the_least_important_blocks_go_and_the_report_is_true(importance: str, tmp_path: Path) -> None:
    # Given a network in which one block hardly does anything
    before = resnet()
    for parameter in before.module.get_submodule("layer3.1").parameters():
        parameter.data *= 1e-3
    macs, parameters = count_macs(before.module, before.input_shape).total, count_parameters(before.module)
    notes: dict[str, Json] = {}
    # When two blocks are removed
    params = PruneBlocks.model_validate({"count": 2, "importance": importance, "recalibrate": False})
    after = applied(params, before, notes)
    # Then that one goes first, and the least of the others next
    removed, found = notes["removed"], notes["blocks"]
    assert isinstance(removed, list)
    assert isinstance(found, dict)
    assert removed[0] == "layer3.1"
    assert set(found) == set(BLOCKS)
    assert removed[1] == min(set(BLOCKS) - {"layer3.1"}, key=found.__getitem__)  # type: ignore[arg-type]
    # And what is left is what was told, as edits that rebuild it
    assert notes["macs_left"] == pytest.approx(count_macs(after.module, after.input_shape).total / macs)
    assert notes["parameters_left"] == pytest.approx(count_parameters(after.module) / parameters)
    assert after.edits == tuple(Remove(module=str(name)) for name in removed)
    files.write(after, tmp_path)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(files.read(tmp_path).module(x), after.module(x))


@pytest.mark.parametrize(
    ("amount", "left"), [({"macs_ratio": 0.8}, "macs_left"), ({"parameters_ratio": 0.5}, "parameters_left")]
)
def test_blocks_go_until_little_enough_is_left(amount: dict[str, float], left: str) -> None:
    # Given a part to leave / When blocks are removed
    notes: dict[str, Json] = {}
    after = applied(PruneBlocks.model_validate({"importance": "l1", **amount}), resnet(), notes)
    # Then no more is left, and without the last removal more would be
    ratio, removed, found = next(iter(amount.values())), notes["removed"], notes[left]
    assert isinstance(removed, list)
    assert isinstance(found, float)
    assert found <= ratio
    again: dict[str, Json] = {}
    if len(removed) > 1:
        applied(PruneBlocks(count=len(removed) - 1, importance="l1"), resnet(), again)
        assert again[left] > ratio  # type: ignore[operator]
    assert len(after.edits) == len(removed)


class _Shift(nn.Module):
    """A block whose input and output have a known angle."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    def forward(self, x: Tensor) -> Tensor:
        """(1, 0) to (1, 1)."""
        return x + torch.tensor([0.0, 1.0])


def test_influence_is_one_minus_the_cosine() -> None:
    # Given a block that turns (1, 0) by 45 degrees
    network = nn.Sequential(_Shift())
    data = replace(DATA, pixels=torch.tensor([[1.0, 0.0]] * 4), labels=torch.zeros(4, dtype=torch.int64))
    # When its influence is measured / Then it is 1 - cos(45 degrees)
    assert by_output(network, ["0"], data, device=CPU)["0"] == pytest.approx(1 - 2**-0.5)


def test_fidelity_is_measured_anew_after_each_removal() -> None:
    # Given two blocks removed by fidelity
    before, notes = resnet(), dict[str, Json]()
    original = answers(before.module, DATA)
    after = applied(PruneBlocks(count=2, importance="fidelity", recalibrate=False), before, notes)
    removed, found = notes["removed"], notes["blocks"]
    assert isinstance(removed, list)
    assert isinstance(found, dict)
    # Then the last one's figure is the divergence of the network without both
    assert found[str(removed[1])] == pytest.approx(divergence(original, answers(after.module, DATA)))
    # And that of one that stays is the divergence with the first one gone
    fresh, stays = resnet().module, next(name for name in BLOCKS if name not in removed)
    with without(fresh, str(removed[0])), without(fresh, stays):
        assert found[stays] == pytest.approx(divergence(original, answers(fresh, DATA)))


def test_masks_of_what_is_gone_are_gone() -> None:
    # Given masks in a block that goes and in one that stays
    before = resnet()
    names = ["layer1.0.conv1.weight", "layer4.0.conv1.weight"]
    masks = {name: torch.ones_like(before.module.get_parameter(name), dtype=torch.bool) for name in names}
    # When the one is removed / Then its mask is gone, too
    after = applied(PruneBlocks(importance="l1", include=("layer1.0",)), replace(before, masks=masks), {})
    assert set(after.masks) == {"layer4.0.conv1.weight"}


def test_patterns_say_which_blocks_may_go() -> None:
    # Given a pattern and an exception / When blocks are removed / Then only those that they mean are
    notes: dict[str, Json] = {}
    applied(
        PruneBlocks(importance="l1", include=("layer1.*", "layer2"), exclude=("layer1.0",), count=2), resnet(), notes
    )
    assert sorted(map(str, notes["removed"])) == ["layer1.1", "layer2.1"]  # type: ignore[arg-type]
    with pytest.raises(NoLayerMatches, match=r"layer4\.1"):
        prune_blocks.preflight(resnet(), PruneBlocks(include=("layer4.2",)))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [({"count": 6}, "count 6 cannot be reached: there are 5 blocks"), ({"macs_ratio": 0.1}, "macs_ratio 0.1 cannot")],
)
def test_more_than_there_is_is_refused_before_the_work(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(UnfitModel, match=sentence):
        prune_blocks.preflight(resnet(), PruneBlocks.model_validate(params))


def test_a_network_without_blocks_and_an_importance_without_images_are_refused() -> None:
    with pytest.raises(UnfitModel, match="no residual block"):
        prune_blocks.preflight(replace(resnet(), module=Residual().eval()), PruneBlocks())
    with pytest.raises(MissingData):
        prune_blocks.apply(resnet(), PruneBlocks(), Context())


def test_a_shallower_network_learns_from_the_original_what_went_with_a_block() -> None:
    # Given a network that knows its images, and has lost one of its blocks
    original, data = trained_candidate(), images(96, seed=0)
    context = Context(train=data, calibration=data, seed=1, others={"original": lambda: original})
    shallow = prune_blocks.apply(trained_candidate(), PruneBlocks(count=1), context)
    told = answers(original.module, data)
    before = divergence(told, answers(shallow.module, data))
    # When the original teaches it
    taught = distill.apply(shallow, Distill(epochs=4, batch_size=16, learning_rate=3e-3), context)
    # Then it answers much more as the original does, without the block
    assert divergence(told, answers(taught.module, data)) < 0.5 * before
    assert count_parameters(taught.module) < count_parameters(original.module)
