"""A limit on how long a piece of Python may run, for libraries that may never come back."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: The interpreter swallows what is raised in destructors and in callbacks of its collector, so it is said again.
_AGAIN_SECONDS = 0.1


class TimeLimitExceeded(Exception):
    """It took too long."""


class Limit:
    """The limit of a block that is underway."""

    def __init__(self, seconds: float, stop: Callable[[], None]) -> None:
        self._left, self._stop = seconds, stop
        self._timer, self._began = threading.Timer(seconds, stop), 0.0

    def start(self) -> None:
        """Let time count from now on."""
        self._began = time.monotonic()
        self._timer = threading.Timer(self._left, self._stop)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Let it count no more."""
        self._timer.cancel()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within this block, which has its own reasons to take long, time does not count."""
        self.cancel()
        self._left -= time.monotonic() - self._began
        try:
            yield
        finally:
            self.start()


@contextmanager
def time_limit(seconds: float) -> Iterator[Limit]:
    """Raise `TimeLimitExceeded` in this thread where the block still runs after so many seconds.

    A signal would do so in the main thread only. The exception arrives between two bytecodes, so a call into C that
    never returns is not interrupted.
    """
    target, lock, over = threading.get_ident(), threading.Lock(), False

    def stop() -> None:
        while not over:
            with lock:
                if not over:
                    _raise_in(target)
            time.sleep(_AGAIN_SECONDS)

    limit = Limit(seconds, stop)
    try:
        limit.start()
        yield limit
    finally:
        # First of all, and by itself: whatever arrives from here on is the last.
        over = True
        with lock:
            limit.cancel()


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeLimitExceeded))
