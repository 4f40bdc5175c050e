"""A zip of class folders that nobody trusts, read member by member; nothing is ever unpacked by its name."""

import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from contract.failures import ArchiveBomb, DatasetTooLarge, InvalidDataset, UnsafeArchive

#: Files in one archive, bytes of one image file, bytes of all of them unpacked, and unpacked over packed bytes.
MAX_FILES, MAX_FILE, MAX_UNPACKED, MAX_RATIO = 5_000_000, 64 * 1024**2, 256 * 1024**3, 100
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif"})
_TAKEN = ", ".join(sorted(_SUFFIXES))
#: Of images too, which are not taken.
_OTHER_IMAGES = frozenset(
    {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".tga", ".dcm"}
)
#: Folders that hold parts of a dataset, each with all classes.
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
#: A flag of entries whose names are in UTF-8 (APPNOTE, 4.4.4).
_UTF8 = 0x800
#: What operating systems and people leave beside images.
_BYSTANDERS = frozenset({".ds_store", "thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license"})


@dataclass(frozen=True)
class Member:
    """One image file of an archive."""

    info: zipfile.ZipInfo
    path: PurePosixPath
    #: Of its class; empty where no image of the archive has one.
    folder: str


def open_archive(path: Path) -> zipfile.ZipFile:
    """The archive; raises `InvalidDataset` where it is none."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InvalidDataset("The dataset is no zip archive that can be read.") from error


def members(archive: zipfile.ZipFile) -> list[Member]:
    """The image files, in the order of their names; raises the failure of whatever else the archive holds."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MAX_FILES:
        raise DatasetTooLarge(f"The archive holds {len(entries)} files; at most {MAX_FILES} are taken.")
    paths = [_path(entry) for entry in entries]
    for entry, path in zip(entries, paths, strict=True):
        _check(entry, path)
    _check_together(entries)
    found = list(_images(list(zip(entries, paths, strict=True))))
    if not found:
        raise InvalidDataset(f"The archive holds no images. These are taken: {_TAKEN}.")
    return sorted(found, key=lambda member: str(member.path))


def _path(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where the file lies: some programs write names in UTF-8 and do not say so, and some part folders by `\\`."""
    name = entry.filename
    if not entry.flag_bits & _UTF8:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = entry.filename
    return PurePosixPath(composed(name).replace("\\", "/"))


def composed(name: str) -> str:
    """The name as all are compared: a letter and its accent are one sign (Unicode's form C)."""
    return unicodedata.normalize("NFC", name)


def _check(entry: zipfile.ZipInfo, path: PurePosixPath) -> None:
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", str(path)) is not None
    if outside or "\x00" in entry.filename or len(entry.filename) > 1024:
        raise UnsafeArchive("The archive names a file outside of itself.")
    mode = entry.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise UnsafeArchive("The archive holds a link or a device.")
    if entry.flag_bits & 0x1:
        raise UnsafeArchive("The archive is encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive("The archive is compressed by another way than deflate.")
    if entry.file_size > MAX_FILE and not _bystander(path):
        raise ArchiveBomb(f"{shown(path)} unpacks to {entry.file_size} bytes; at most {MAX_FILE} are taken.")


def _check_together(entries: list[zipfile.ZipInfo]) -> None:
    if len({entry.filename for entry in entries}) != len(entries):
        raise UnsafeArchive("The archive holds two files of one name.")
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > MAX_UNPACKED or (unpacked > MAX_RATIO * max(packed, 1) and unpacked > MAX_FILE // 8):
        raise ArchiveBomb(f"The archive unpacks from {packed} to {unpacked} bytes.")
    spans = sorted((entry.header_offset, entry.header_offset + entry.compress_size) for entry in entries)
    if any(end > begin for (_, end), (begin, _) in pairwise(spans)):
        raise ArchiveBomb("Files of the archive share their bytes.")


def _images(entries: Sequence[tuple[zipfile.ZipInfo, PurePosixPath]]) -> Iterator[Member]:
    wanted = [(entry, path) for entry, path in entries if not _bystander(path)]
    other = next((path for _, path in entries if not _hidden(path) and path.suffix.lower() in _OTHER_IMAGES), None)
    if other is not None:
        raise InvalidDataset(f"{shown(other)} is an image of a kind that is not taken. These are: {_TAKEN}.")
    if all(len(path.parts) == 1 for _, path in wanted):
        yield from (Member(entry, path, "") for entry, path in wanted)
        return
    depth = _depth([path for _, path in wanted])
    for entry, path in wanted:
        if len(path.parts) < depth + 2:
            raise InvalidDataset(f"{shown(path)} is an image outside of the class folders.")
        yield Member(entry, path, path.parts[depth])


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _bystander(path: PurePosixPath) -> bool:
    return _hidden(path) or path.name.lower() in _BYSTANDERS or path.suffix.lower() not in _SUFFIXES


def _depth(paths: Sequence[PurePosixPath]) -> int:
    """How many folders stand around the class folders: as many as hold nothing but one folder of folders.

    Raises `InvalidDataset` where what stands in them are parts of a dataset, each with class folders of its own.
    """
    depth = 0
    while all(len(path.parts) >= depth + 3 for path in paths):
        tops = {path.parts[depth] for path in paths}
        if len(tops) > 1:
            if all(top.lower() in _SPLITS for top in tops):
                raise InvalidDataset(
                    f"The archive holds {' and '.join(sorted(tops))}, with class folders in each. Make each a dataset."
                )
            break
        depth += 1
    return depth


def content(archive: zipfile.ZipFile, member: Member) -> bytes:
    """The bytes of one file; raises `ArchiveBomb` where it unpacks to more than it said."""
    try:
        with archive.open(member.info) as file:
            data = file.read(member.info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise InvalidDataset(f"{shown(member.path)} is damaged in the archive.") from error
    if len(data) > member.info.file_size:
        raise ArchiveBomb(f"{shown(member.path)} unpacks to more than it says.")
    return data


def shown(path: PurePosixPath) -> str:
    """The file's name for a reader: what it is called, printable and short."""
    name = "".join(c if c.isprintable() else "?" for c in str(path))
    return name if len(name) <= 120 else f"{name[:60]}...{name[-50:]}"
