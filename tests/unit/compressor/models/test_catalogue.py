"""The catalogue's figures are those of the networks that it names, as a job would build them."""

import pytest

from compressor.measure.counting import count_macs, count_parameters
from compressor.measure.file_size import safetensors_bytes
from compressor.models.architectures import build, build_hollow
from compressor.models.catalogue import entry_of
from compressor.models.replacement import adapted, with_classes
from contract.architecture import ArchitectureEntry, Stem, catalogue
from contract.cost import InputShape
from contract.model import Architecture


def entry(library: str, name: str) -> ArchitectureEntry:
    return next(entry for entry in catalogue() if (entry.library, entry.name) == (library, name))


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "squeezenet1_1"), ("torchvision", "regnet_y_400mf"), ("timm", "test_resnet")]
)
def test_the_committed_catalogue_is_what_is_generated(library: str, name: str) -> None:
    # Given an architecture, also one that cannot be built on meta / When its entry is made anew
    made = entry_of(library, name)
    # Then it is the one that is committed
    assert made == entry(library, name)


@pytest.mark.parametrize("stem", ["auto", "keep"])
@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [
        ("resnet18", (1, 28, 28), 10),
        ("resnet18", (3, 32, 300), 7),
        ("mobilenet_v3_small", (3, 40, 47), 2),
        ("mobilenet_v3_small", (1, 299, 299), 100_000),
        ("regnet_y_400mf", (3, 33, 33), 10),
        ("squeezenet1_1", (1, 65, 64), 10),
        ("googlenet", (3, 63, 63), 10),
        ("convnext_tiny", (3, 36, 48), 10),
        ("densenet121", (3, 50, 50), 10),
        ("swin_t", (3, 14, 30), 10),
        ("swin_v2_t", (1, 250, 97), 10),
        ("alexnet", (3, 64, 64), 10),
        ("vit_b_16", (1, 224, 224), 10),
    ],
)
def test_figures_are_those_of_what_a_job_builds(name: str, shape: InputShape, num_classes: int, stem: Stem) -> None:
    # Given images of a size of one's own, and a number of classes / When a job builds the network for these
    architecture = with_classes(Architecture(name=name), num_classes)
    module = build_hollow(architecture, in_channels=shape[0]).to("meta").eval()
    adapted(module, shape, stem)
    # Then the catalogue has told its figures
    card = entry("torchvision", name).card(shape, num_classes=num_classes, stem=stem)
    assert card.macs == count_macs(module, shape).total
    assert card.parameters == count_parameters(module)
    assert card.size_bytes == safetensors_bytes(module)
    assert (card.stem, card.input, card.macs_unknown) == (stem, shape, None)


@pytest.mark.parametrize("shape", [(3, 160, 160), (1, 75, 299)])
@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_b0", "mobilevit_xxs", "poolformer_s12"])
def test_timms_figures_are_those_of_what_timm_builds(name: str, shape: InputShape) -> None:
    # Given a network of timm for images of a size of one's own / When timm builds it
    architecture = Architecture(library="timm", name=name, options={"num_classes": 10})
    module = build(architecture, in_channels=shape[0], device="meta").eval()
    # Then the catalogue has told its figures, and its bytes to a thousandth
    card = entry("timm", name).card(shape, num_classes=10)
    assert (card.macs, card.parameters) == (count_macs(module, shape).total, count_parameters(module))
    assert card.size_bytes == pytest.approx(safetensors_bytes(module), rel=1e-3)
    # And it says that no stem is fitted in them
    assert card.stem == "keep"


def test_every_figure_of_torchvision_is_there() -> None:
    # Given the entries of torchvision / Then each is complete, and only what has one size is counted for no other
    entries = [entry for entry in catalogue() if entry.library == "torchvision"]
    for entry in entries:
        assert entry.published_accuracy is not None
        assert entry.file is not None
        assert entry.file.at(3, 1000) == entry.size_bytes
        assert entry.fitted is not None
        assert entry.sizes is not None
        assert entry.counted_since == (None if entry.sizes.only else entry.sizes.least)
        assert entry.card().macs
    alone = {entry.name.split("_")[0] for entry in entries if entry.sizes and entry.sizes.only}
    assert alone == {"vit", "maxvit"}


def test_most_of_timm_is_counted_for_images_of_any_size_that_it_takes() -> None:
    # Given the entries of timm / When those of which nothing or one size alone is known are looked for
    entries = [entry for entry in catalogue() if entry.library == "timm"]
    unknown = [entry.name for entry in entries if entry.macs is None]
    once = [entry.name for entry in entries if entry.sizes and not entry.sizes.only and entry.counted_since is None]
    # Then they are few
    assert len(unknown) < 40
    assert len(once) < 140
