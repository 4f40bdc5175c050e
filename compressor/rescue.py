"""What is left of a job that fails: the work of hours is not lost with its last minute."""

import shutil
from pathlib import Path

from compressor.manifest import listed
from contract.artifact import ArtifactFile


def leave(made: Path, out: Path) -> tuple[ArtifactFile, ...]:
    """Put what a step has made into `out`, in the place of what the step before it had left there."""
    return tuple(listed(_copied(path, out / path.name), partial=True) for path in sorted(made.iterdir()))


def _copied(path: Path, place: Path) -> Path:
    # The process can end at any moment, and what lies there by then is delivered: the old file or the new, no half.
    whole = path.parent.with_name(path.name)
    shutil.copyfile(path, whole)
    return whole.replace(place)


def files_left(out: Path) -> tuple[ArtifactFile, ...]:
    """What a job that failed has left in its folder, none of it what was ordered."""
    present = sorted(path for path in out.iterdir() if path.is_file()) if out.is_dir() else []
    return tuple(listed(path, partial=True) for path in present)
