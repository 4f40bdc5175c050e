"""The catalogue's figures are those of the networks that it names."""

import pytest

from compressor.measure.counting import count_macs, count_parameters
from compressor.measure.file_size import safetensors_bytes
from compressor.models.architectures import build
from compressor.models.catalogue import entry_of
from contract.architecture import SIDES, catalogue
from contract.model import Architecture


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "squeezenet1_1"), ("torchvision", "regnet_y_400mf"), ("timm", "test_resnet")]
)
def test_the_committed_catalogue_is_what_is_generated(library: str, name: str) -> None:
    # Given an architecture, also one that cannot be built on meta / When its entry is made anew
    made = entry_of(library, name)
    # Then it is the one that is committed
    assert made == next(entry for entry in catalogue() if (entry.library, entry.name) == (library, name))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "swin_t"])
@pytest.mark.parametrize("channels", [1, 3])
def test_figures_hold_when_they_are_counted_on_the_network_itself(name: str, channels: int) -> None:
    # Given a network for gray images, and one for colour images
    module = build(Architecture(name=name), in_channels=channels, device="meta")
    entry = next(entry for entry in catalogue() if (entry.library, entry.name) == ("torchvision", name))
    # When it is counted / Then its figures are those of the catalogue
    for side in (32, 224):
        card = entry.card_for((channels, side, side))
        assert card is not None
        assert card.macs == count_macs(module, (channels, side, side)).total
        assert card.parameters == count_parameters(module)
        assert card.size_bytes == safetensors_bytes(module)


def test_every_figure_of_torchvision_is_there() -> None:
    # Given the entries of torchvision / Then each is complete, and only what refuses a size has none for it
    entries = [entry for entry in catalogue() if entry.library == "torchvision"]
    for entry in entries:
        assert entry.gray is not None
        assert entry.published_accuracy is not None
        assert entry.parameters_per_class
        assert len(entry.rgb.macs) == len(entry.gray.macs) == len(SIDES)
        told = [macs for macs in entry.rgb.macs if macs is not None]
        assert told == sorted(told)
    assert sum(entry.rgb.macs_at(32) is None for entry in entries) < 12
