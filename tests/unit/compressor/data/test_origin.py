"""Images are read again from their file for those who see them larger."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from compressor.data.changing import CHANCES, Augment
from compressor.data.images import Images
from compressor.data.origin import Sight
from contract.model import Preprocessing
from tests.unit.compressor.data.pictures import noise, read, shown, smooth, zipped
from tests.unit.compressor.small_jobs import images

SMALL = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
LARGE = Sight((48, 40), "rgb")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Ten pictures of 60 x 50 pixels."""
    return zipped(tmp_path / "d.zip", noise(60, 50, 10, seed=0))


def resized(picture: np.ndarray, sight: Sight, part: tuple[float, float, float, float] | None = None) -> Tensor:
    """What Pillow makes of a picture (H, W, 3), or of a part of it."""
    image = Image.fromarray(picture).convert("L" if sight.channels == "gray" else "RGB")
    found = np.asarray(image.resize(sight.size[::-1], Image.Resampling.BILINEAR, box=part), dtype=np.float32)
    return torch.from_numpy(found.reshape(*sight.size, -1).transpose(2, 0, 1)) / 255


@pytest.mark.parametrize("sight", [LARGE, Sight((32, 32), "gray")])
def test_a_larger_sight_is_read_from_the_file(archive: Path, sight: Sight) -> None:
    # Given images that were read small / When others see them larger, in colours of their own
    data = read(archive, SMALL)
    found = shown(data, sight)
    # Then they see what the file has in that size
    pictures = noise(60, 50, 10, seed=0)
    expected = torch.stack([resized(picture, sight) for folder in pictures.values() for picture in folder])
    assert torch.equal(found, expected)
    # And the network sees what it saw
    assert torch.equal(data.seen_in([sight]).pixels, data.pixels)


def test_the_part_of_the_picture_is_that_which_the_network_sees(archive: Path) -> None:
    # Given a network that sees the middle of images: 16 of 21 pixels, from the third on
    data = read(archive, SMALL.model_copy(update={"crop": 0.75}))
    # When others see them larger / Then they see the same middle, to the fraction of a pixel
    sight, first = Sight((40, 36), "rgb"), noise(60, 50, 10, seed=0)["even"][0]
    part = (2 / 21 * 50, 2 / 21 * 60, 18 / 21 * 50, 18 / 21 * 60)
    assert torch.equal(shown(data, sight)[0], resized(first, sight, part))


def test_arrays_are_looked_at_again_too(tmp_path: Path) -> None:
    # Given arrays of pixels that are larger than the network's input / When others see them larger
    pictures = np.stack(noise(60, 50, 10, seed=0)["even"])
    np.savez(tmp_path / "d.npz", x=pictures)
    # Then they see what the arrays have
    found = shown(read(tmp_path / "d.npz", SMALL), LARGE)
    assert torch.equal(found, torch.stack([resized(picture, LARGE) for picture in pictures]))


def test_no_more_is_read_than_the_file_has(tmp_path: Path) -> None:
    # Given pictures of 24 x 20 pixels / When others want them larger / Then they are read in that size
    data = read(zipped(tmp_path / "d.zip", noise(24, 20, 6, seed=0)), SMALL)
    assert shown(data, LARGE).shape == (6, 3, 24, 20)
    assert data.seen_in([LARGE]).bytes_when_held() == 6 * 3 * 24 * 20


def floats(tmp_path: Path) -> Images:
    x = np.random.default_rng(0).normal(size=(6, 3, 16, 16))
    np.savez(tmp_path / "d.npz", x=x)
    return read(tmp_path / "d.npz", SMALL)


def tiny(tmp_path: Path) -> Images:
    return read(zipped(tmp_path / "d.zip", noise(16, 12, 6, seed=0)), SMALL)


@pytest.mark.parametrize("given", [floats, tiny, lambda _: images(6, seed=0)], ids=["floats", "files", "memory"])
def test_where_there_is_no_more_others_see_what_the_network_sees(given: object, tmp_path: Path) -> None:
    # Given images that are nowhere larger / When others want them larger
    data: Images = given(tmp_path)  # type: ignore[operator]
    assert not data.has_more_for(LARGE)
    # Then they are shown the network's, before their normalization, and nothing is read
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.preprocessing.mean, data.preprocessing.std))
    expected = next(data.batches(6)).x * std + mean
    assert torch.allclose(shown(data, LARGE), expected, atol=1e-6)
    assert data.seen_in([LARGE]).bytes_when_held() == 0


def test_some_of_the_images_are_seen_as_those_that_they_are(archive: Path) -> None:
    # Given images of which some are chosen, by their number and by their class
    data = read(archive, SMALL)
    every, few, odd = shown(data, LARGE), data.take(6, seed=1), data.of_classes([1])
    index = torch.tensor([i for i in range(10) if any(torch.equal(data.pixels[i], one) for one in few.pixels)])
    # When others see these, chosen before they looked or behind that / Then they see the same ones
    assert torch.equal(shown(few, LARGE), every[index])
    assert torch.equal(shown(odd, LARGE), every[5:])
    behind = data.seen_in([LARGE]).take(6, seed=1)
    assert torch.equal(next(behind.batches(6)).others()[0], every[index])


def test_nothing_is_read_before_somebody_looks_and_nothing_again_once_it_is_held(archive: Path) -> None:
    # Given images that others see larger
    data = read(archive, SMALL)
    seen, held = data.seen_in([LARGE]), data.seen_in([LARGE]).held()
    looked = next(held.batches(10)).others()[0]
    # When their file is gone
    archive.unlink()
    # Then the network sees them still, and so do others where they are held
    batch = next(seen.batches(10))
    assert torch.equal(batch.x, next(held.batches(10)).x)
    assert torch.equal(next(held.batches(10)).others()[0], looked)
    with pytest.raises(Exception, match="no zip archive"):
        batch.others()


@pytest.mark.parametrize("augment", CHANCES)
def test_others_see_the_same_version(tmp_path: Path, augment: Augment) -> None:
    # Given pictures without fine things in two sizes, one three times the other / When both are changed at random
    path = zipped(tmp_path / "d.zip", smooth(48, 48, 10, seed=0))
    data = read(path, SMALL).seen_in([Sight((48, 48), "rgb")])
    batch = next(data.batches(10, seed=3, epoch=2, augment=augment))
    # Then both show the same part of the pictures, and not one beside it
    own, other = batch.x * 0.25 + 0.5, F.avg_pool2d(batch.others()[0], 3)
    beside = F.avg_pool2d(batch.others()[0].roll(3, 3), 3)
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert float((own - other)[inner].abs().mean()) < 0.3 * float((own - beside)[inner].abs().mean())
