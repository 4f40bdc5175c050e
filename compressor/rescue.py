"""What is left of a job that fails: the work of hours is not lost with its last minute."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressor.context import Interrupted


@contextmanager
def rescuing(made: Path | None, out: Path) -> Iterator[None]:
    """Copy what an earlier step has made into `out` where the block fails, but for files that lie there already.

    An interrupted job goes on, so nothing of it need be rescued.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception:
        _copy(made, out)
        raise


def _copy(made: Path | None, out: Path) -> None:
    for path in sorted(made.iterdir()) if made is not None else ():
        if not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)
