"""Waiting in tests: until something holds, never for a time."""

import time
from collections.abc import Callable


def until(holds: Callable[[], bool], *, seconds: float = 120, every: float = 0.1) -> None:
    """Return as soon as it holds; fail the test where it does not within the deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come to hold within {seconds} s")
        time.sleep(every)
