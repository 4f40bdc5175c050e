"""The bounds of one attempt: its time and its memory."""

import time
from collections.abc import Callable, Iterable

import psutil

from contract.failures import DeadlineExceeded, JobFailure, MemoryLimit

#: How often memory is looked at, in seconds.
LOOK_SECONDS = 0.5


class Watch:
    """Says when an attempt has gone too far."""

    def __init__(self, *, seconds: float, memory_bytes: int, family: Callable[[], Iterable[psutil.Process]]) -> None:
        self._deadline = time.monotonic() + seconds
        self._memory_bytes = memory_bytes
        self._family = family
        self._look_at = time.monotonic()

    def exceeded(self) -> JobFailure | None:
        """The bound that has been passed, if any; cheap to ask often."""
        now = time.monotonic()
        if now >= self._deadline:
            return DeadlineExceeded()
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        if used_bytes(self._family(), enough=self._memory_bytes) > self._memory_bytes:
            return MemoryLimit(f"The job needed more than {self._memory_bytes:,} bytes of memory and was stopped.")
        return None


def used_bytes(family: Iterable[psutil.Process], *, enough: int) -> int:
    """Memory of some processes, in bytes: pages that several share count once.

    Sharing is only looked into, for that takes a while, where resident memory alone is more than `enough`.
    """
    processes = list(family)
    resident = sum(map(_resident_bytes, processes))
    return resident if resident <= enough else sum(map(_proportional_bytes, processes))


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _proportional_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
