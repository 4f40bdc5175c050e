"""What a job's process may not do, and that it ends with whoever started it.

The process closes the sandbox over itself before it imports anything that reads uploaded bytes. Linux only.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.host import threads_of

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

#: What a job's process inherits; credentials of the database, the broker and the blob store are not among it.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Bounds:
    """Limits of one job's processes."""

    #: Of one file, in bytes.
    file_bytes: int
    #: Open at a time, by one process.
    open_files: int = 4096


def environment(scratch: Path, *, threads: int, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment of a job's process: nothing passes that is not named here."""
    kept = {name: inherited[name] for name in _INHERITED if name in inherited}
    folder = str(scratch / "tmp")
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
    folders = dict.fromkeys(("TMPDIR", "HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME"), folder)
    return kept | threads_of(threads) | offline | folders | {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "agg"}


def close(bounds: Bounds, *, parent: int) -> None:
    """Bind this process: it dies with `parent`, gains no privileges, dumps no core and stays within `bounds`."""
    die_with(parent)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, bounds.open_files)
    _limit(resource.RLIMIT_FSIZE, bounds.file_bytes)
    offer_to_oom_killer()


def die_with(parent: int) -> None:
    """Have the kernel end this process when the thread of `parent` that started it does."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have gone before the kernel was told.
    if os.getppid() != parent:
        sys.exit(1)


def adopt_orphans() -> None:
    """Have processes that lose their parent, anywhere below this one, become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def offer_to_oom_killer() -> None:
    """Where the host runs out of memory, the kernel takes the job and not the worker or a database beside it."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(kind: int, wanted: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (bound, bound))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
