"""A zip of class folders that nobody trusts, read member by member; nothing is ever unpacked by its name."""

import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from contract.failures import ArchiveBomb, DatasetTooLarge, InvalidDataset, UnsafeArchive

#: Files in one archive, bytes of one image file, bytes of all of them unpacked, and unpacked over packed bytes.
MAX_FILES, MAX_FILE, MAX_UNPACKED, MAX_RATIO = 5_000_000, 64 * 1024**2, 256 * 1024**3, 100
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
#: What operating systems and people leave beside images.
_BYSTANDERS = frozenset({".ds_store", "thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license"})


@dataclass(frozen=True)
class Member:
    """One image file of an archive."""

    info: zipfile.ZipInfo
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
    for entry in entries:
        _check(entry)
    _check_together(entries)
    found = list(_images(entries))
    if not found:
        raise InvalidDataset("The archive holds no images that can be read.")
    return sorted(found, key=lambda member: member.info.filename)


def _check(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or ".." in parts or ":" in name or "\x00" in name or len(name) > 1024:
        raise UnsafeArchive("The archive names a file outside of itself.")
    mode = entry.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise UnsafeArchive("The archive holds a link or a device.")
    if entry.flag_bits & 0x1:
        raise UnsafeArchive("The archive is encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive("The archive is compressed by another way than deflate.")
    if entry.file_size > MAX_FILE:
        raise ArchiveBomb(f"A file of the archive unpacks to {entry.file_size} bytes; at most {MAX_FILE} are taken.")


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


def _images(entries: list[zipfile.ZipInfo]) -> Iterator[Member]:
    paths = {entry.filename: PurePosixPath(entry.filename) for entry in entries}
    wanted = [entry for entry in entries if not _bystander(paths[entry.filename])]
    if all(len(paths[entry.filename].parts) == 1 for entry in wanted):
        yield from (Member(entry, "") for entry in wanted)
        return
    depth = _depth([paths[entry.filename] for entry in wanted])
    for entry in wanted:
        parts = paths[entry.filename].parts
        if len(parts) < depth + 2:
            raise InvalidDataset("The archive holds images outside of the class folders.")
        yield Member(entry, parts[depth])


def _bystander(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return hidden or path.name.lower() in _BYSTANDERS or path.suffix.lower() not in _SUFFIXES


def _depth(paths: list[PurePosixPath]) -> int:
    """How many folders stand around the class folders: one where everything lies in a single folder of folders."""
    tops = {path.parts[0] for path in paths}
    return 1 if len(tops) == 1 and all(len(path.parts) >= 3 for path in paths) else 0


def content(archive: zipfile.ZipFile, member: Member) -> bytes:
    """The bytes of one file; raises `ArchiveBomb` where it unpacks to more than it said."""
    try:
        with archive.open(member.info) as file:
            data = file.read(member.info.file_size + 1)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise InvalidDataset(f"{shown(member)} is damaged in the archive.") from error
    if len(data) > member.info.file_size:
        raise ArchiveBomb(f"{shown(member)} unpacks to more than it says.")
    return data


def shown(member: Member) -> str:
    """The file's name for a reader: what it is called, printable and short."""
    name = "".join(c if c.isprintable() else "?" for c in member.info.filename)
    return name if len(name) <= 120 else f"{name[:60]}...{name[-50:]}"
