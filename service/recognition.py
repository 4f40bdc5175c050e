"""What uploaded bytes are, by their first bytes and their directory; nothing beyond is parsed, nothing is executed."""

import zipfile
from pathlib import PurePosixPath
from typing import BinaryIO

from contract.dataset import DatasetFormat
from contract.failures import ExecutableModelNotAllowed, PickleNotAllowed, RequestRefused, UnsupportedFormat
from contract.model import ModelFormat

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
#: Parts that only programs have: TorchScript, torch.package, torch.export.
_EXECUTABLE = frozenset(
    {"constants.pkl", "code", "extern_modules", "archive_format", "serialized_exported_program.json"}
)

Format = ModelFormat | DatasetFormat


def check_beginning(beginning: bytes, format: Format) -> None:
    """Refuse what cannot be of this format; raises `PickleNotAllowed` or `UnsupportedFormat`."""
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
    """Refuse archives that are not what they seem; raises `ExecutableModelNotAllowed`, `PickleNotAllowed` or
    `UnsupportedFormat`."""
    if format is ModelFormat.SAFETENSORS:
        return
    names = _names_in(file)
    if format is ModelFormat.PT:
        _check_state_dict(names)
    if format is DatasetFormat.NPZ and any(PurePosixPath(name).suffix != ".npy" for name in names):
        raise UnsupportedFormat("The archive holds other files than the arrays of an npz.")


def _names_in(file: BinaryIO) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UnsupportedFormat("The zip archive has no directory that can be read.") from error


def _check_state_dict(names: list[str]) -> None:
    paths = [PurePosixPath(name) for name in names]
    if any(_EXECUTABLE & set(path.parts[1:] or path.parts) for path in paths) or any(path.suffix == ".so" for path in paths):
        raise ExecutableModelNotAllowed
    if not any(path.name == "data.pkl" for path in paths):
        raise _no_state_dict()


def _no_state_dict() -> RequestRefused:
    return UnsupportedFormat("The zip archive holds no state_dict.")
