"""What uploaded bytes are, by their first bytes and their directory; nothing beyond is parsed, nothing is executed."""

import io
import zipfile
from pathlib import PurePosixPath
from typing import BinaryIO

from contract.dataset import DatasetFormat
from contract.failures import ExecutableModelNotAllowed, PickleNotAllowed, UnsupportedFormat
from contract.model import ModelFormat
from contract.programs import is_program

#: As many first bytes as `check_beginning` wants to see.
BEGINNING = 512

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_NAMES = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"Rar!": "RAR",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "npy",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"ZF": "joblib",
}
_TAR_AT, _TAR = 257, b"ustar"

#: Where a zip archive says that it ends: within its last 22 bytes and a comment of 65,535 at most (APPNOTE, 4.3.16).
_ZIP_END, _ZIP_END_WITHIN = b"PK\x05\x06", 22 + 65_535
#: The directory of an archive with a few ten thousand tensors, in bytes; none larger is read into memory.
_MOST_DIRECTORY = 2 * 1024**2

Format = ModelFormat | DatasetFormat


def check_beginning(beginning: bytes, format: Format) -> None:
    """Refuse what cannot be of this format; raises `PickleNotAllowed` or `UnsupportedFormat`."""
    if format is ModelFormat.SAFETENSORS and beginning[8:9] == b"{":
        # Its first eight bytes are a number, which may look like anything.
        return
    if beginning.startswith(_PICKLE) or (beginning[:1] in (b"(", b"c") and format is ModelFormat.PT):
        raise PickleNotAllowed
    name = next((name for magic, name in _NAMES.items() if beginning.startswith(magic)), None)
    if beginning[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        name = "tar"
    if name is not None:
        raise UnsupportedFormat(f"The file is {name}; {_wanted(format)} was announced.")
    zipped = beginning.startswith(_ZIP)
    if zipped != (format is not ModelFormat.SAFETENSORS):
        raise UnsupportedFormat(
            f"The file is {'a zip archive' if zipped else 'no zip archive'}; {_wanted(format)} was announced."
        )
    if format is ModelFormat.SAFETENSORS and beginning[8:9] != b"{":
        raise UnsupportedFormat("The file is not of the safetensors format.")


def _wanted(format: Format) -> str:
    return {
        ModelFormat.SAFETENSORS: "safetensors",
        ModelFormat.PT: "a zip-format state_dict",
        DatasetFormat.IMAGE_FOLDER_ZIP: "a zip of class folders",
        DatasetFormat.NPZ: "npz",
    }[format]


def check_whole(file: BinaryIO, format: Format) -> None:
    """Refuse archives that are not what they seem; raises `ExecutableModelNotAllowed` or `UnsupportedFormat`."""
    match format:
        case ModelFormat.SAFETENSORS:
            return
        case ModelFormat.PT:
            _check_state_dict(_names_in(file))
        case DatasetFormat.NPZ:
            _check_arrays([PurePosixPath(name) for name in _names_in(file)])
        case DatasetFormat.IMAGE_FOLDER_ZIP:
            # Millions of images are no reason to hold their names in memory here.
            _check_end(file)


def _check_state_dict(names: list[str]) -> None:
    if is_program(names):
        raise ExecutableModelNotAllowed
    if not any(PurePosixPath(name).name == "data.pkl" for name in names):
        raise UnsupportedFormat("The zip archive holds no state_dict.")


def _check_arrays(paths: list[PurePosixPath]) -> None:
    if not paths or any(path.suffix != ".npy" for path in paths):
        raise UnsupportedFormat("The archive holds other files than the arrays of an npz.")


def _check_end(file: BinaryIO) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _ZIP_END_WITHIN))
    if _ZIP_END not in file.read():
        raise UnsupportedFormat("The zip archive breaks off: it has no directory.")


class _Frugal(io.BufferedReader):
    """A file of which nobody reads more at once than a directory may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As asked; raises `ValueError` for too much."""
        if size is not None and size > _MOST_DIRECTORY:
            raise ValueError("the directory is too large")
        return super().read(size)


def _names_in(file: BinaryIO) -> list[str]:
    try:
        with zipfile.ZipFile(_Frugal(io.FileIO(file.fileno(), closefd=False))) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UnsupportedFormat("The zip archive has no directory that can be read.") from error
