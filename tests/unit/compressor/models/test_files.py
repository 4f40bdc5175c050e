"""A candidate on disk rebuilds to the same network, or is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.methods import prune_channels, prune_weights, quantize_weights
from compressor.models.edits import Narrow, Remove, Set, apply_edits, edits_between
from compressor.models.files import load_model, read, write
from contract.failures import InvalidModel
from contract.methods.low_bit import QuantizeWeights
from contract.methods.prune import PruneChannels, PruneWeights
from tests.unit.compressor.networks import named

SMALL = ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf"]


def answers(module: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return module.eval()(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", SMALL)
def test_what_is_written_rebuilds_bit_for_bit(tmp_path: Path, name: str) -> None:
    # Given a network that was narrowed and has zeros
    candidate = prune_weights.apply(named(name), PruneWeights(amount=0.3), Context())
    candidate = prune_channels.apply(candidate, PruneChannels(ratio=0.3), Context())
    # When it is written and read
    write(candidate, tmp_path)
    rebuilt = read(tmp_path)
    # Then it answers the same, and has the same masks and edits
    assert torch.equal(answers(rebuilt.module), answers(candidate.module))
    assert rebuilt.edits == candidate.edits
    assert all(torch.equal(rebuilt.masks[n], mask) for n, mask in candidate.masks.items())
    # And so does the model that a user loads
    assert torch.equal(answers(load_model(tmp_path)), answers(candidate.module))


def test_a_mask_that_zeros_do_not_tell_is_kept(tmp_path: Path) -> None:
    # Given a kept weight that happens to be zero
    candidate = prune_weights.apply(named("squeezenet1_1"), PruneWeights(include=("features.0",)), Context())
    mask = candidate.masks["features.0.weight"]
    kept = tuple(mask.nonzero()[0].tolist())
    candidate.module.get_parameter("features.0.weight").data[kept] = 0
    # When it is written and read / Then it is still kept
    write(candidate, tmp_path)
    assert torch.equal(read(tmp_path).masks["features.0.weight"], mask)


def test_kept_weights_whose_codes_mean_zero_cost_little(tmp_path: Path) -> None:
    # Given a layer of which 95 % are pruned, and whose smallest kept weight is nearest to the code of zero
    candidate = prune_weights.apply(
        named("resnet18"), PruneWeights(include=("layer4.0.conv1",), amount=0.95), Context()
    )
    weight, mask = candidate.module.get_parameter("layer4.0.conv1.weight"), candidate.masks["layer4.0.conv1.weight"]
    weight.data[tuple(mask.nonzero()[0].tolist())] = 1e-9
    params = QuantizeWeights(bits=4, all_layers=True, include=("layer4.0.conv1",))
    coded = quantize_weights.apply(candidate, params, Context())
    # When it is written and read
    write(coded, tmp_path)
    # Then the mask is as it was, and takes less than a hundredth of a bit for each weight
    assert torch.equal(read(tmp_path).masks["layer4.0.conv1.weight"], mask)
    stored = load_file(tmp_path / "model.safetensors")
    parts = [tensor.nbytes for name, tensor in stored.items() if name.startswith("layer4.0.conv1.weight#mask")]
    assert 0 < sum(parts) * 8 < 0.01 * weight.numel()


def test_the_same_candidate_gives_the_same_bytes(tmp_path: Path) -> None:
    # Given one candidate / When it is written twice / Then the files are the same
    for folder in ("a", "b"):
        write(named("squeezenet1_1"), tmp_path / folder)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_bear_no_trace_of_the_machine(tmp_path: Path) -> None:
    # Given a written candidate / When its files are searched / Then there is no path in them
    write(named("squeezenet1_1"), tmp_path)
    for name in ("model.safetensors", "model.json"):
        content = (tmp_path / name).read_bytes()
        assert not any(
            word in content for word in (b"/tmp", b"/home", b"/root", b"site-packages", str(tmp_path).encode())
        )


def swap_weights(folder: Path) -> None:
    other = named("squeezenet1_1")
    nn.init.normal_(other.module.get_parameter("features.0.weight"))
    document = (folder / "model.json").read_text()
    write(other, folder)
    (folder / "model.json").write_text(document)


def edit_document(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        swap_weights,
        edit_document(version=99),
        edit_document(edits=[{"op": "run", "module": "os.system"}]),
        edit_document(edits=[{"op": "narrow", "module": "nowhere", "shapes": {}}]),
        edit_document(edits=[{"op": "narrow", "module": "features.0", "shapes": {"weight": [1, 1]}}]),
        edit_document(edits=[{"op": "set", "module": "features.0", "attribute": "forward", "value": 1}]),
        edit_document(masks={"features.0.weight": "bits"}),
        edit_document(masks={"features.0.weight": "exceptions"}),
        edit_document(architecture={"library": "torchvision", "name": "squeezenet1_0", "options": {"num_classes": 10}}),
        lambda folder: (folder / "model.json").write_text("{"),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x00"),
    ],
)  # fmt: skip
def test_spoilt_files_are_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    # Given files in which something was changed
    write(named("squeezenet1_1"), tmp_path)
    spoil(tmp_path)
    # When they are read / Then they are refused
    with pytest.raises(InvalidModel):
        read(tmp_path)


def test_edits_say_what_was_done_to_a_network() -> None:
    # Given a network of which a layer was narrowed, one removed, and one given a bias
    before, after = (nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)) for _ in range(2))
    after[0] = nn.Conv2d(3, 4, 3, bias=True)
    after[1] = nn.Identity()
    # When the edits between the two are found
    edits = edits_between(before, after)
    # Then they tell it, and doing them makes the one into the shape of the other
    assert [type(edit) for edit in edits] == [Narrow, Set, Remove]
    apply_edits(before, edits)
    assert {n: t.shape for n, t in before.state_dict().items()} == {n: t.shape for n, t in after.state_dict().items()}


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    # Given a network of which two layers share a weight
    candidate: Candidate = replace(named("resnet18"))
    layer = candidate.module.get_submodule("layer1.0.conv1")
    layer.weight = candidate.module.get_submodule("layer1.0.conv2").weight
    # When it is written and read
    write(candidate, tmp_path)
    # Then the file holds it once, and the network answers the same
    assert (tmp_path / "model.safetensors").stat().st_size < 44_800_000 - 4 * 64 * 64 * 9
    assert torch.allclose(answers(read(tmp_path).module), answers(candidate.module))


def test_a_file_of_a_newer_version_is_named_as_such(tmp_path: Path) -> None:
    # Given a description with edits that only a later version knows
    write(named("squeezenet1_1"), tmp_path)
    document = json.loads((tmp_path / "model.json").read_text())
    document["edits_version"] += 1
    document["edits"] = [{"op": "fold", "module": "classifier"}]
    (tmp_path / "model.json").write_text(json.dumps(document))
    # When it is read / Then that is the reason
    with pytest.raises(InvalidModel, match="newer version"):
        read(tmp_path)


class Wrapped(nn.Module):
    """Tells its convolution's width as its own, as blocks of timm do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)

    @property
    def out_channels(self) -> int:
        return self.conv.out_channels


def test_a_width_that_a_module_only_tells_is_not_edited() -> None:
    # Given a block and a narrower one
    before, after = nn.Sequential(Wrapped(8)), nn.Sequential(Wrapped(4))
    # When the one becomes as the other
    edits = edits_between(before, after)
    apply_edits(before, edits)
    # Then it is the convolution that was edited
    assert {edit.module for edit in edits} == {"0.conv"}
    assert before[0].out_channels == 4
