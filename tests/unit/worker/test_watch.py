"""The bounds of an attempt: its time, and the memory of all its processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from contract.failures import DeadlineExceeded, MemoryLimit
from tests.deadline import until
from worker.watch import Watch, used_bytes

MIB = 1024**2


@pytest.fixture
def swollen() -> Iterator[list[psutil.Process]]:
    """Two processes that share 200 MiB: one has filled them, the other was forked from it."""
    code = "import os, time; x = b'x' * (200 * 1024**2); os.fork(); os.write(1, b'ready\\n'); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            assert [parent.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
            yield [psutil.Process(parent.pid), *psutil.Process(parent.pid).children()]
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_pages_that_processes_share_count_once(swollen: list[psutil.Process]) -> None:
    # Given two processes that share most of their memory / When it matters / Then it is counted once
    assert 200 * MIB < used_bytes(swollen, enough=0) < 300 * MIB
    # When a glance shows that it is little anyway / Then the glance is enough
    assert used_bytes(swollen, enough=10_000 * MIB) > 400 * MIB


def test_memory_beyond_the_bound_is_named(swollen: list[psutil.Process]) -> None:
    # Given / When / Then
    assert isinstance(Watch(seconds=60, memory_bytes=100 * MIB, family=lambda: swollen).exceeded(), MemoryLimit)
    assert Watch(seconds=60, memory_bytes=300 * MIB, family=lambda: swollen).exceeded() is None


def test_a_process_that_has_ended_uses_nothing(swollen: list[psutil.Process]) -> None:
    # Given / When
    swollen[1].kill()
    # Then
    until(lambda: used_bytes(swollen[1:], enough=0) == 0)


def test_time_that_is_over_is_named() -> None:
    # Given / When / Then
    assert isinstance(Watch(seconds=0, memory_bytes=1, family=list).exceeded(), DeadlineExceeded)
