"""Datasets from files nobody trusts become images in memory."""

import io
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compressor.data.archive import Member, composed, content, members, open_archive, shown
from compressor.data.arrays import read_arrays
from compressor.data.images import Images
from contract.dataset import DatasetFormat
from contract.failures import ClassesMismatch, DatasetTooLarge, InvalidImage, SingleClass
from contract.model import Preprocessing

#: Pixels of one image file, and bytes of all images once they are resized.
MAX_PIXELS, MAX_BYTES = 100_000_000, 8 * 1024**3
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def read_images(
    path: Path, format: DatasetFormat, preprocessing: Preprocessing, classes: tuple[str, ...] | None
) -> Images:
    """The file's images, resized for the network, with labels in the order of `classes` where these are known.

    A zip of images that lie in no folder, and an npz file without `y`, have no labels.

    EXIF orientation is not honoured, as training code does not. Raises `UnsafeArchive`, `ArchiveBomb`,
    `InvalidImage`, `InvalidDataset`, `DatasetTooLarge`, `SingleClass`, `ClassesMismatch` or `PickleNotAllowed`.
    """
    if format is DatasetFormat.NPZ:
        images = _from_arrays(path, preprocessing, classes)
    else:
        images = _from_folders(path, preprocessing, classes)
    if images.labelled and int(images.labels.min()) == int(images.labels.max()):
        raise SingleClass
    return images


def _from_folders(path: Path, preprocessing: Preprocessing, classes: tuple[str, ...] | None) -> Images:
    with open_archive(path) as archive:
        files = members(archive)
        folders = sorted({member.folder for member in files if member.folder})
        if len(folders) == 1:
            raise SingleClass(
                f"The archive has the one class folder {folders[0]!r} only. Images without labels lie in no folder."
            )
        names = classes or tuple(folders)
        number = _numbers(folders, names)
        _check_room(len(files), preprocessing)
        pixels = _decoded(archive, files, preprocessing)
    if not folders:
        return Images(pixels, torch.full((len(files),), -1), preprocessing, classes)
    labels = torch.tensor([number[member.folder] for member in files])
    return Images(pixels, labels, preprocessing, names)


def _numbers(folders: list[str], names: tuple[str, ...]) -> dict[str, int]:
    """The number of each class by its folder; `names` are the model's, or else the folders in their order."""
    number = {composed(name): index for index, name in enumerate(names)}
    stranger = next((folder for folder in folders if folder not in number), None)
    if stranger is not None:
        raise ClassesMismatch(f"The data has a class {stranger!r}, which the model does not name.")
    return number


def _check_room(count: int, preprocessing: Preprocessing) -> None:
    channels = 1 if preprocessing.channels == "gray" else 3
    size = count * channels * preprocessing.size[0] * preprocessing.size[1]
    if size > MAX_BYTES:
        raise DatasetTooLarge(
            f"{count} images of {preprocessing.size[0]}x{preprocessing.size[1]} need {size / 1024**3:.1f} GiB; "
            f"at most {MAX_BYTES // 1024**3} GiB are taken."
        )


def _decoded(archive: zipfile.ZipFile, files: list[Member], preprocessing: Preprocessing) -> Tensor:
    """uint8 (N, channels, height, width). Pillow decodes outside of Python's lock, so threads share the work.

    What it only warns of, as of palettes with transparent colours or odd metadata, is an image all the same.
    """
    channels = 1 if preprocessing.channels == "gray" else 3
    pixels = torch.empty(len(files), channels, *preprocessing.size, dtype=torch.uint8)

    def decode(index: int, data: bytes) -> None:
        pixels[index] = _image(data, shown(files[index].path), preprocessing)

    # Around the threads, not in them: how a process is warned is one for all of them, and who sets it back last wins.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        for begin in range(0, len(files), 256):
            part = range(begin, min(begin + 256, len(files)))
            list(pool.map(decode, part, [content(archive, files[i]) for i in part]))
    return pixels


def _image(data: bytes, name: str, preprocessing: Preprocessing) -> Tensor:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InvalidImage(f"{name} has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are taken.")
            return _fitted(_in_bytes(image).convert("L" if preprocessing.channels == "gray" else "RGB"), preprocessing)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError, IndexError) as error:
        raise InvalidImage(f"{name} is no image that can be read.") from error


def _in_bytes(image: Image.Image) -> Image.Image:
    """Gray of 16 bits in 8 bits: Pillow's own conversion makes everything above 255 white."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64).clip(0, 65_535)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _fitted(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Resized over the crop and cut at the centre; uint8 (channels, height, width)."""
    height, width = preprocessing.size
    over = (round(width / preprocessing.crop), round(height / preprocessing.crop))
    if image.size != over:
        image = image.resize(over, Image.Resampling.BILINEAR)
    left, top = (over[0] - width) // 2, (over[1] - height) // 2
    array = np.asarray(image.crop((left, top, left + width, top + height)))
    return torch.from_numpy(array.reshape(height, width, -1).transpose(2, 0, 1).copy())


def _from_arrays(path: Path, preprocessing: Preprocessing, classes: tuple[str, ...] | None) -> Images:
    x, y = read_arrays(path, preprocessing)
    if classes is not None and int(y.max()) >= len(classes):
        raise ClassesMismatch(
            f"The data has a class number {int(y.max())}, and the model names {len(classes)} classes."
        )
    _check_room(len(x), preprocessing)
    if x.dtype == np.uint8:
        mode = "L" if preprocessing.channels == "gray" else "RGB"
        pixels = torch.stack([_fitted(Image.fromarray(one).convert(mode), preprocessing) for one in x])
    else:
        pixels = torch.from_numpy(x)
    return Images(pixels, torch.from_numpy(y), preprocessing, classes)
