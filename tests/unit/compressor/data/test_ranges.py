"""Floats that were not normalized as the network is used to are told from those that were."""

import pytest
import torch
from torch import Tensor

from compressor.data.images import Images
from compressor.data.ranges import unnormalized
from contract.model import Preprocessing

USUAL = Preprocessing(size=(8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
#: Of networks that take pixels as they are.
BARE = Preprocessing(size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
#: Of networks whose pixels keep their scale, as Caffe's do.
WIDE = Preprocessing(size=(8, 8), mean=(0.485, 0.456, 0.406), std=(1 / 255, 1 / 255, 1 / 255))


def pictures() -> Tensor:
    """Some of whose pixels are black, others white."""
    pixels = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels[:, :, 0, 0], pixels[:, :, 0, 1] = 0, 1
    return pixels


def images(pixels: Tensor, preprocessing: Preprocessing) -> Images:
    return Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), preprocessing)


@pytest.mark.parametrize("preprocessing", [USUAL, BARE, WIDE], ids=["usual", "bare", "wide"])
def test_nothing_is_said_of_what_is_normalized(preprocessing: Preprocessing) -> None:
    # Given pictures as the network takes them, or in bytes, which the service normalizes
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (preprocessing.mean, preprocessing.std))
    for pixels in ((pictures() - mean) / std, (255 * pictures()).to(torch.uint8)):
        assert unnormalized(images(pixels, preprocessing)) is None
    # And of noise neither, which has no bounds
    noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert unnormalized(images(noise, preprocessing)) is None


@pytest.mark.parametrize(
    ("scale", "preprocessing"),
    [(255, USUAL), (255, BARE), (1, USUAL), (1, WIDE)],
    ids=["255", "bare 255", "1", "wide 1"],
)
def test_pixels_as_they_are_are_told(scale: int, preprocessing: Preprocessing) -> None:
    # Given floats from 0 to 255, or to 1, where the network takes something else / When they are looked at
    found = unnormalized(images(scale * pictures(), preprocessing))
    # Then it is said what they are and what they should be
    assert found is not None
    assert f"floats from 0 to {scale}." in found
