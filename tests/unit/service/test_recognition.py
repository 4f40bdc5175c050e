"""What uploaded archives may hold, and how much of them is read."""

import io
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest
import torch

from contract.dataset import DatasetFormat
from contract.failures import ExecutableModelNotAllowed, Failure, UnsupportedFormat
from contract.model import ModelFormat
from service.recognition import check_beginning, check_whole


@contextmanager
def uploaded(content: bytes) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def archive(*names: str, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.comment = comment
        for name in names:
            made.writestr(name, b"x")
    return buffer.getvalue()


def saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (saved({"w": torch.zeros(2)}), ModelFormat.PT),
        (archive("x.npy", "y.npy"), DatasetFormat.NPZ),
        (archive("a/1.png", "b/2.png"), DatasetFormat.IMAGE_FOLDER_ZIP),
        (archive("a/1.png", comment=b"c" * 65_535), DatasetFormat.IMAGE_FOLDER_ZIP),
    ],
    ids=["state_dict", "npz", "images", "a long comment"],
)
def test_what_is_of_its_format_passes(content: bytes, format: ModelFormat | DatasetFormat) -> None:
    with uploaded(content) as file:
        check_whole(file, format)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 23_117, 35_615])
def test_a_length_that_looks_like_another_format_is_a_length(length: int) -> None:
    # Given safetensors whose header is as long as makes its first bytes those of a pickle, a program or gzip
    # When they arrive / Then they pass
    check_beginning(length.to_bytes(8, "little") + b'{"weight": ', ModelFormat.SAFETENSORS)


@pytest.mark.parametrize(
    ("content", "format", "failure"),
    [
        (archive("m/data.pkl", "m/code/__torch__.py"), ModelFormat.PT, ExecutableModelNotAllowed),
        (archive("m/data.pkl", "m/data/lib.so"), ModelFormat.PT, ExecutableModelNotAllowed),
        (archive("serialized_exported_program.json"), ModelFormat.PT, ExecutableModelNotAllowed),
        (archive("m/weights"), ModelFormat.PT, UnsupportedFormat),
        (archive("x.npy", "y.pkl"), DatasetFormat.NPZ, UnsupportedFormat),
        (archive(), DatasetFormat.NPZ, UnsupportedFormat),
        (archive("x.npy")[:-10], DatasetFormat.NPZ, UnsupportedFormat),
        (archive("a/1.png")[:-30], DatasetFormat.IMAGE_FOLDER_ZIP, UnsupportedFormat),
    ],
    ids=["code", "library", "old export", "no weights", "pickle", "empty", "cut", "cut images"],
)
def test_what_is_not_is_refused_by_name(
    content: bytes, format: ModelFormat | DatasetFormat, failure: type[Failure]
) -> None:
    with uploaded(content) as file, pytest.raises(failure):
        check_whole(file, format)


def test_a_directory_that_is_said_to_be_huge_is_not_read() -> None:
    # Given an archive that announces a directory of a gigabyte in front of its end
    content = bytes(1024**2) + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, 1024**3, 0, 0)
    sparse = b"PK\x03\x04" + content
    # When it is looked at / Then it is refused, and nobody reserves a gigabyte
    with tempfile.TemporaryFile() as file:
        file.truncate(1024**3)
        file.seek(0, io.SEEK_END)
        file.write(sparse)
        with pytest.raises(UnsupportedFormat):
            check_whole(file, ModelFormat.PT)
