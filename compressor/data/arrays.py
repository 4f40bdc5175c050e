"""Arrays from an npz file nobody trusts: sizes are checked before memory is taken, and no pickle is read."""

import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from contract.failures import ArchiveBomb, ClassesMismatch, DatasetTooLarge, InvalidDataset, PickleNotAllowed
from contract.model import Preprocessing

MAX_ARRAY, MAX_RATIO = 32 * 1024**3, 1000
_UNREADABLE = "The dataset is no npz file that can be read."


def read_arrays(path: Path, preprocessing: Preprocessing) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """`x` as uint8 (N, H, W) or (N, H, W, 3), or as float32 (N, C, H, W) of the network's input shape; `y` as int64.

    A file without `y` gives labels of -1.

    Raises `InvalidDataset`, `PickleNotAllowed`, `DatasetTooLarge`, `ArchiveBomb` or `ClassesMismatch`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            x, y = _member(archive, "x"), _member(archive, "y")
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError, SyntaxError) as error:
        raise InvalidDataset(_UNREADABLE) from error
    if x is None or not x.ndim:
        raise InvalidDataset("The npz file has no array x with an entry for each image.")
    labels = np.full(len(x), -1) if y is None else _labels(y)
    if len(x) != len(labels) or not len(x):
        raise InvalidDataset(f"x has {len(x)} entries and y has {len(labels)}; both need the same, and one at least.")
    return _pictures(x, preprocessing), labels


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any] | None:
    entry = next((e for e in archive.infolist() if e.filename in (name, f"{name}.npy")), None)
    if entry is None:
        return None
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise ArchiveBomb(f"The array {name} unpacks from {entry.compress_size} to {entry.file_size} bytes.")
    shape, dtype = _header(archive, entry)
    _check_header(name, shape, dtype, entry.file_size)
    with archive.open(entry) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        with archive.open(entry) as file:
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(file, max_header_size=10_000)
    except Exception as error:
        # What is raised of a broken one is anything: TokenError, MemoryError of its parser, RuntimeError and others.
        raise InvalidDataset(_UNREADABLE) from error
    if any(type(n) is not int for n in shape):
        raise InvalidDataset(_UNREADABLE)
    return shape, dtype


def _check_header(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], file_size: int) -> None:
    if dtype.hasobject:
        raise PickleNotAllowed(f"The array {name} holds Python objects, which are pickles.")
    if dtype.kind not in "buif":
        raise InvalidDataset(f"The array {name} holds {dtype}, and only numbers are taken.")
    size = prod(shape) * dtype.itemsize
    if size > MAX_ARRAY:
        raise DatasetTooLarge(f"The array {name} has {size} bytes; at most {MAX_ARRAY} are taken.")
    if size > file_size or any(n < 0 for n in shape):
        raise InvalidDataset(f"The array {name} claims more entries than the file holds.")


def _labels(y: NDArray[Any]) -> NDArray[np.int64]:
    """One class number for each image; also of a column, and of floats that are whole, as others keep them."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 1 and y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all():
        y = y.astype(np.int64)
    if y.ndim != 1 or y.dtype.kind not in "bui":
        way = " Of one number for each class, give y.argmax(1)." if y.ndim == 2 else ""
        raise InvalidDataset(f"y must be one integer for each image, and is {y.dtype} of shape {list(y.shape)}.{way}")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < 2**31:
        raise ClassesMismatch("y holds a class number below 0 or above all classes.")
    return y.astype(np.int64)


def _pictures(x: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    if x.dtype == np.uint8:
        return _pixels(x)
    if x.dtype.kind != "f":
        raise InvalidDataset(f"x holds {x.dtype}; give uint8 pixels or float inputs.")
    wanted = preprocessing.input_shape
    if x.shape[1:] != wanted:
        raise InvalidDataset(f"x has inputs of {list(x.shape[1:])}, and the network takes {list(wanted)}.")
    inputs = x.astype(np.float32)
    if not np.isfinite(inputs).all():
        raise InvalidDataset("x holds NaN or infinity.")
    return inputs


def _pixels(x: NDArray[Any]) -> NDArray[Any]:
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim == 3 or (x.ndim == 4 and x.shape[-1] == 3):
        return np.ascontiguousarray(x)
    raise InvalidDataset(f"x has the shape {list(x.shape)}; uint8 pixels are (N, H, W), (N, H, W, 1) or (N, H, W, 3).")
