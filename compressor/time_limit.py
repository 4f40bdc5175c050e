"""A limit on how long a piece of Python may run, for libraries that may never come back."""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: The interpreter swallows what is raised in destructors and in callbacks of its collector, so it is said again.
_AGAIN_SECONDS = 0.1


class TimeLimitExceeded(Exception):
    """It took too long."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
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

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    try:
        timer.start()
        yield
    finally:
        # First of all, and by itself: whatever arrives from here on is the last.
        over = True
        with lock:
            timer.cancel()


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeLimitExceeded))
