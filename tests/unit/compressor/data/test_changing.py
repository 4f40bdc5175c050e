"""What becomes of images that are changed at random."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.data.changing import CHANCES, Augment, changed

#: Draws of `resized_crop_flip`: of 0.5 the aspect is kept and the middle is cut out.
WHOLE, MIDDLE, PLAIN, MIRRORED = 1.0, 0.5, 0.1, 0.9


def pictures(size: int = 10, count: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def resized(pixels: Tensor, *draws: float) -> Tensor:
    return changed(pixels, torch.tensor([draws]), "resized_crop_flip")


def test_the_whole_of_an_image_is_the_image() -> None:
    # Given an image / When the rectangle is all of it / Then it is the same, or its mirror image
    pixels = pictures()
    assert torch.equal(resized(pixels, WHOLE, MIDDLE, 0.3, 0.7, PLAIN), pixels)
    assert torch.equal(resized(pixels, WHOLE, MIDDLE, 0.3, 0.7, MIRRORED), pixels.flip(3))


def test_a_rectangle_is_enlarged_to_the_images_size() -> None:
    # Given an image, and the draw by which 36 % of its area remain: 6 of 10 pixels on each side
    pixels, draw = pictures(), (0.36 - 0.35) / 0.65
    # When they are those of the lower right corner
    found = resized(pixels, draw, MIDDLE, 1.0, 1.0, PLAIN)
    # Then it is that corner, enlarged: but for its upper and left border, which see what lies beside
    corner = F.interpolate(pixels[..., 4:, 4:].float(), size=(10, 10), mode="bilinear", align_corners=False)
    assert torch.allclose(found.float()[..., 2:, 2:], corner[..., 2:, 2:], atol=0.51)


def test_a_rectangle_can_be_wider_than_the_image_in_proportion() -> None:
    # Given an image whose rows are all of one color / When a wide rectangle of its middle is enlarged
    rows = torch.arange(12, dtype=torch.float32).view(1, 1, 12, 1).expand(1, 3, 12, 12)
    found = resized(rows, 0.0, 1.0, MIDDLE, MIDDLE, PLAIN)
    # Then as many rows of it are seen as the area and the aspect of 4:3 leave
    seen = 12 * (0.35 * 3 / 4) ** 0.5
    assert found.dtype == torch.float32
    assert float(found[0, 0, -1, 0] - found[0, 0, 0, 0]) == pytest.approx(seen * 11 / 12, abs=1e-4)


@pytest.mark.parametrize("augment", ["crop", "crop_flip"])
@pytest.mark.parametrize("side", [10, 16])
def test_the_same_pictures_in_another_size_show_the_same_part(augment: Augment, side: int) -> None:
    # Given pictures, and the same three times as large
    small = pictures(side, 32)
    large = small.repeat_interleave(3, 2).repeat_interleave(3, 3)
    draws = torch.rand(32, CHANCES[augment], generator=torch.Generator().manual_seed(1))
    # When both are changed by the same numbers / Then one is the other three times as large, pixel by pixel
    found = changed(large, draws, augment, as_in=(side, side))
    own = changed(small, draws, augment)
    assert torch.equal(found, own.repeat_interleave(3, 2).repeat_interleave(3, 3))


def test_a_rectangle_is_the_same_in_another_size() -> None:
    # Given a smooth ramp of colours in two sizes, from its first pixel's middle to its last one's
    def ramp(side: int) -> Tensor:
        places = (torch.arange(side) + 0.5) / side
        return torch.stack([places.view(1, -1).expand(side, -1), places.view(-1, 1).expand(-1, side)])[None]

    draws = torch.rand(16, 5, generator=torch.Generator().manual_seed(1))
    # When rectangles are cut out of both / Then the mean of each nine pixels of one is a pixel of the other
    small, large = (changed(ramp(n).expand(16, -1, -1, -1), draws, "resized_crop_flip") for n in (16, 48))
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(F.avg_pool2d(large, 3)[inner], small[inner], atol=1e-5)


@pytest.mark.parametrize("augment", CHANCES)
def test_every_image_is_changed_in_its_own_way(augment: Augment) -> None:
    # Given the same image many times
    same = pictures(16).expand(64, -1, -1, -1)
    draws = torch.rand(64, CHANCES[augment], generator=torch.Generator().manual_seed(1))
    # When it is changed
    found = changed(same, draws, augment)
    # Then the results are images of the same kind, nearly all of them different
    assert (found.shape, found.dtype) == (same.shape, same.dtype)
    assert len({image.numpy().tobytes() for image in found}) > (16 if augment == "crop" else 24)
