"""Datasets from files nobody trusts become images in memory."""

import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from compressor.data.archive import Member, composed, content, members, open_archive, shown
from compressor.data.arrays import read_arrays
from compressor.data.images import Images
from compressor.data.origin import Album, Origin, Sight
from contract.dataset import DatasetFormat
from contract.failures import ClassesMismatch, DatasetTooLarge, InvalidImage, SingleClass
from contract.model import Channels, Preprocessing

#: Pixels of one image file, and bytes of all images once they are resized.
MAX_PIXELS, MAX_BYTES = 100_000_000, 8 * 1024**3
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_MODES: dict[Channels, str] = {"rgb": "RGB", "gray": "L"}


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
        pixels, sides = _read_once(archive, files, preprocessing)
    origin = _origin(partial(_open_folders, path, preprocessing), sides, preprocessing)
    if not folders:
        return Images(pixels, torch.full((len(files),), -1), preprocessing, classes, origin=origin)
    labels = torch.tensor([number[member.folder] for member in files])
    return Images(pixels, labels, preprocessing, names, origin=origin)


def _origin(open: Callable[[], Album], sides: Tensor, preprocessing: Preprocessing) -> Origin:
    """Of all pictures of a file, which have these heights and widths (N, 2) there."""
    left, upper, right, lower = _part_seen(preprocessing)
    seen = (sides * torch.tensor([lower - upper, right - left], dtype=torch.float64)).round().to(torch.int32)
    return Origin(open, torch.arange(len(sides)), seen)


def _open_folders(path: Path, preprocessing: Preprocessing) -> Album:
    """The archive that has been read for this preprocessing, to be read again."""
    archive = open_archive(path)
    files = members(archive)

    def album(sight: Sight, places: Tensor) -> Tensor:
        pixels = torch.empty(len(places), *sight.input_shape, dtype=torch.uint8)

        def keep(index: int, picture: Image.Image) -> None:
            pixels[index] = _in_sight(picture, sight, preprocessing)

        _each_picture(archive, [files[place] for place in places.tolist()], keep)
        return pixels

    return album


def _numbers(folders: list[str], names: tuple[str, ...]) -> dict[str, int]:
    """The number of each class by its folder; `names` are the model's, or else the folders in their order."""
    number = {composed(name): index for index, name in enumerate(names)}
    stranger = next((folder for folder in folders if folder not in number), None)
    if stranger is not None:
        raise ClassesMismatch(f"The data has a class {stranger!r}, which the model does not name.")
    return number


def _check_room(count: int, preprocessing: Preprocessing) -> None:
    size = count * prod(preprocessing.input_shape)
    if size > MAX_BYTES:
        raise DatasetTooLarge(
            f"{count} images of {preprocessing.size[0]}x{preprocessing.size[1]} need {size / 1024**3:.1f} GiB; "
            f"at most {MAX_BYTES // 1024**3} GiB are taken."
        )


def _read_once(
    archive: zipfile.ZipFile, files: Sequence[Member], preprocessing: Preprocessing
) -> tuple[Tensor, Tensor]:
    """uint8 (N, channels, height, width), and int32 (N, 2): the height and width of each in the archive."""
    pixels = torch.empty(len(files), *preprocessing.input_shape, dtype=torch.uint8)
    sides = torch.empty(len(files), 2, dtype=torch.int32)

    def keep(index: int, picture: Image.Image) -> None:
        pixels[index] = _fitted(picture.convert(_MODES[preprocessing.channels]), preprocessing)
        sides[index] = torch.tensor([picture.height, picture.width])

    _each_picture(archive, files, keep)
    return pixels, sides


def _each_picture(archive: zipfile.ZipFile, files: Sequence[Member], keep: Callable[[int, Image.Image], None]) -> None:
    """Decode every file, for `keep` to take. Pillow decodes outside of Python's lock, so threads share the work.

    What it only warns of, as of palettes with transparent colours or odd metadata, is an image all the same.
    """

    def decode(index: int, data: bytes) -> None:
        _decode(data, shown(files[index].path), partial(keep, index))

    # Around the threads, not in them: how a process is warned is one for all of them, and who sets it back last wins.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        for begin in range(0, len(files), 256):
            part = range(begin, min(begin + 256, len(files)))
            list(pool.map(decode, part, [content(archive, files[i]) for i in part]))


def _decode(data: bytes, name: str, keep: Callable[[Image.Image], None]) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InvalidImage(f"{name} has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are taken.")
            keep(_in_bytes(image))
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
    over = _over(preprocessing)
    if image.size != over:
        image = image.resize(over, Image.Resampling.BILINEAR)
    left, top = (over[0] - width) // 2, (over[1] - height) // 2
    return _tensor(image.crop((left, top, left + width, top + height)))


def _over(preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height of the resized image, of which the centre is cut out."""
    height, width = preprocessing.size
    return round(width / preprocessing.crop), round(height / preprocessing.crop)


def _tensor(image: Image.Image) -> Tensor:
    array = np.asarray(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1).copy())


def _part_seen(preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Where the part of a picture begins and ends that `_fitted` keeps: left, upper, right and lower, from 0 to 1."""
    (height, width), (across, down) = preprocessing.size, _over(preprocessing)
    left, top = (across - width) // 2, (down - height) // 2
    return left / across, top / down, (left + width) / across, (top + height) / down


def _in_sight(picture: Image.Image, sight: Sight, preprocessing: Preprocessing) -> Tensor:
    """What `_fitted` keeps, to the fraction of a pixel, in another size; uint8 (channels, height, width)."""
    left, upper, right, lower = _part_seen(preprocessing)
    part = (left * picture.width, upper * picture.height, right * picture.width, lower * picture.height)
    height, width = sight.size
    image = picture.convert(_MODES[sight.channels])
    return _tensor(image.resize((width, height), Image.Resampling.BILINEAR, box=part))


def _from_arrays(path: Path, preprocessing: Preprocessing, classes: tuple[str, ...] | None) -> Images:
    x, y = read_arrays(path, preprocessing)
    if classes is not None and int(y.max()) >= len(classes):
        raise ClassesMismatch(
            f"The data has a class number {int(y.max())}, and the model names {len(classes)} classes."
        )
    _check_room(len(x), preprocessing)
    labels = torch.from_numpy(y)
    if x.dtype != np.uint8:
        return Images(torch.from_numpy(x), labels, preprocessing, classes)
    mode, sides = _MODES[preprocessing.channels], torch.tensor([x.shape[1:3]]).expand(len(x), 2)
    pixels = torch.stack([_fitted(Image.fromarray(one).convert(mode), preprocessing) for one in x])
    origin = _origin(partial(_open_arrays, path, preprocessing), sides, preprocessing)
    return Images(pixels, labels, preprocessing, classes, origin=origin)


def _open_arrays(path: Path, preprocessing: Preprocessing) -> Album:
    """The pixels of the file that has been read for this preprocessing, to be looked at again."""
    x, _ = read_arrays(path, preprocessing)

    def album(sight: Sight, places: Tensor) -> Tensor:
        pictures: list[NDArray[Any]] = [x[place] for place in places.tolist()]
        return torch.stack([_in_sight(Image.fromarray(one), sight, preprocessing) for one in pictures])

    return album
