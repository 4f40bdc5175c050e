"""The folder in which one job, or one worker, has its files."""

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

#: A folder of this age, in seconds, that nobody holds has lost its worker.
STALE_SECONDS = 60.0


@dataclass(frozen=True)
class Folder:
    """A new, empty folder, held by this process for as long as it lives."""

    path: Path
    _hold: int

    @classmethod
    def make(cls, root: Path) -> "Folder":
        """Make one under `root`, for this user alone."""
        path = root / secrets.token_hex(8)
        for name in ("in", "out", "tmp", "checkpoints"):
            (path / name).mkdir(parents=True, mode=0o700)
        hold = _hold(path)
        if hold is None:
            raise FileExistsError(path)
        return cls(path, hold)

    @property
    def inputs(self) -> Path:
        """What the job reads."""
        return self.path / "in"

    @property
    def out(self) -> Path:
        """What the job delivers."""
        return self.path / "out"

    @property
    def checkpoints(self) -> Path:
        """What the job leaves to go on from."""
        return self.path / "checkpoints"

    @property
    def temporary(self) -> Path:
        """What is needed for a while."""
        return self.path / "tmp"

    def remove(self) -> None:
        """Delete the folder and all that is in it."""
        _remove(self.path)
        os.close(self._hold)


def remove_stale(root: Path) -> None:
    """Delete folders whose worker was killed; any number of workers may do so at once."""
    for path in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    if time.time() - path.stat().st_mtime < STALE_SECONDS:
        return
    hold = _hold(path)
    if hold is not None:
        _remove(path)
        os.close(hold)


def _hold(path: Path) -> int | None:
    """Lock the folder; null where another process has."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        return None
    return folder


def _remove(path: Path) -> None:
    """Delete a folder, also where the job has taken rights away from itself."""
    for parent, folders, _ in os.walk(path):
        for name in folders:
            inner = Path(parent, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(path)
