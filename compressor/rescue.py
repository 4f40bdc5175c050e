"""What is left of a job that fails: the work of hours is not lost with its last minute."""

import shutil
from pathlib import Path

from compressor.manifest import listed
from contract.artifact import ArtifactFile


def leave(made: Path, out: Path) -> tuple[ArtifactFile, ...]:
    """Put what a step has made into `out`, in the place of what the step before it had left there."""
    paths = sorted(made.iterdir())
    # Digests first, which take time: while old and new files lie there together, neither can be had.
    files = tuple(listed(path, partial=True) for path in paths)
    for path in paths:
        _put(path, out / path.name)
    return files


def _put(path: Path, place: Path) -> None:
    """The same bytes at the place, at once; a link where the file system has links, since nobody writes into files."""
    new = place.with_name(f".{place.name}")
    new.unlink(missing_ok=True)
    try:
        new.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, new)
    new.replace(place)


def files_left(out: Path) -> tuple[ArtifactFile, ...]:
    """What a job that failed has left in its folder, none of it what was ordered."""
    present = sorted(path for path in out.iterdir() if path.is_file()) if out.is_dir() else []
    return tuple(listed(path, partial=True) for path in present if not path.name.startswith("."))
