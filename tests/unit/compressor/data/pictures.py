"""Image files with more in them than a small network sees."""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from compressor.data.images import Images
from compressor.data.origin import Sight
from compressor.data.reading import read_images
from contract.dataset import DatasetFormat
from contract.model import Preprocessing

Picture = NDArray[np.uint8]


def png(picture: Picture) -> bytes:
    """A picture (H, W, 3) as a file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def stripes(side: int, count: int, *, seed: int) -> dict[str, list[Picture]]:
    """By class: pictures of the same colours and some noise, striped across or down, one pixel after the other."""
    random = np.random.default_rng(seed)
    found: dict[str, list[Picture]] = {"across": [], "down": []}
    for number in range(count):
        line = np.arange(side) % 2 * random.integers(60, 160) + random.integers(0, 60)
        picture = (line[None, :, None] + random.integers(0, 30, (side, side, 3))).astype(np.uint8)
        found["across" if number % 2 else "down"].append(picture.transpose(1, 0, 2) if number % 2 else picture)
    return found


def noise(height: int, width: int, count: int, *, seed: int) -> dict[str, list[Picture]]:
    """By class: pictures of which no two pixels are alike."""
    random = np.random.default_rng(seed)
    pictures = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]
    return {"even": pictures[::2], "odd": pictures[1::2]}


def smooth(height: int, width: int, count: int, *, seed: int) -> dict[str, list[Picture]]:
    """The same, of an eighth of the size and enlarged, so that there is nothing fine in them."""
    small = noise(height // 8, width // 8, count, seed=seed)
    return {name: [_enlarged(picture, height, width) for picture in few] for name, few in small.items()}


def _enlarged(picture: Picture, height: int, width: int) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def zipped(path: Path, pictures: dict[str, list[Picture]]) -> Path:
    """Class folders with these pictures."""
    with zipfile.ZipFile(path, "w") as archive:
        for folder, files in pictures.items():
            for number, picture in enumerate(files):
                archive.writestr(f"{folder}/{number:03}.png", png(picture))
    return path


def read(path: Path, preprocessing: Preprocessing) -> Images:
    """The images of a zip or npz file."""
    format = DatasetFormat.NPZ if path.suffix == ".npz" else DatasetFormat.IMAGE_FOLDER_ZIP
    return read_images(path, format, preprocessing, None)


def shown(images: Images, sight: Sight) -> Tensor:
    """What the first sight shows of all images, (N, channels, H, W) from 0 to 1."""
    return torch.cat([batch.others()[0] for batch in images.seen_in([sight]).batches(5)])
