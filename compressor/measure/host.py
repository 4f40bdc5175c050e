"""The machine while it is measured: one measurement at a time, and who else is busy."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Cores that other processes may keep busy before a figure is called noisy.
NOISE = 0.2

_LOCK = "modelpress-measure.lock"


def lock_path() -> Path:
    """The file on which every measuring process of this host waits for the others."""
    shared = Path("/dev/shm")
    return (shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())) / _LOCK


def _opened(path: Path) -> int:
    # Opened plainly first: in a sticky folder the kernel refuses O_CREAT on another user's file.
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


@contextmanager
def alone_on_host(path: Path | None = None) -> Iterator[None]:
    """Waits until no other process of this host measures; the lock falls with the process that holds it."""
    descriptor = _opened(path or lock_path())
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Ticks:
    """Clock readings in seconds: wall time, all that the host did, and what our processes did of it."""

    wall: float
    busy: float
    own: float


def _host_busy(tick: int) -> float | None:
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, path.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / tick


def _process_busy(process: int, tick: int) -> float:
    # The name, in brackets, may hold spaces: the fields are counted from behind it.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / tick


def _read(processes: Sequence[int]) -> _Ticks | None:
    tick = os.sysconf("SC_CLK_TCK")
    busy = _host_busy(tick)
    if busy is None:
        return None
    return _Ticks(time.monotonic(), busy, sum(_process_busy(p, tick) for p in processes))


class OtherLoad:
    """How many cores were busy with what is not ours since it was made; none where the host cannot say."""

    def __init__(self, processes: Sequence[int]) -> None:
        self._processes = (os.getpid(), *processes)
        self._start = _read(self._processes)

    def cores(self) -> float | None:
        """The average so far."""
        now, start = _read(self._processes), self._start
        if now is None or start is None or now.wall <= start.wall:
            return None
        others = (now.busy - start.busy) - (now.own - start.own)
        return max(0.0, others / (now.wall - start.wall))
