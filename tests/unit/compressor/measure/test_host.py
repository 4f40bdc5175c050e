import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from compressor.measure.host import OtherLoad, alone_on_host, lock_path
from contract.host import widest

HOLDER = """
import sys
from pathlib import Path
from compressor.measure.host import alone_on_host
with alone_on_host(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

SPINNER = "print('spinning', flush=True)\nwhile True: pass"


@contextmanager
def running(*command: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process of ours and what it says; gone at the end, whatever happens."""
    with subprocess.Popen(
        [sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def test_one_process_at_a_time_measures(tmp_path: Path) -> None:
    # Given a process that holds the host's lock, and another that wants it
    lock = str(tmp_path / "lock")
    with running(HOLDER, lock) as (first, first_says):
        assert first_says.readline() == "held\n"
        with running(HOLDER, lock) as (second, second_says):
            _wait_until_it_waits(second.pid)
            assert not select.select([second_says], [], [], 0)[0]
            # When the first dies without a word
            first.kill()
            first.wait()
            # Then the second gets it
            assert second_says.readline() == "held\n"


def _wait_until_it_waits(process: int) -> None:
    """Until the kernel says that the process waits for a lock."""
    deadline = time.monotonic() + 30
    while "->" not in Path("/proc/locks").read_text() or not _waits(process):
        assert time.monotonic() < deadline, "the second process never came to the lock"
        time.sleep(0.02)


def _waits(process: int) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {process} " in line for line in lines)


def test_the_lock_is_one_for_the_whole_host() -> None:
    # Given the place of the lock, which no setting of this process moves
    with alone_on_host():
        assert lock_path().exists()


def test_other_load_is_load_that_is_not_ours() -> None:
    # Given a process that keeps a core busy
    with running(SPINNER) as (spinner, says):
        says.readline()
        # When its share of the machine is watched, once as one of ours and at the same time as a stranger
        with_it, without_it = OtherLoad([spinner.pid]), OtherLoad([])
        spent = _spent(spinner.pid)
        deadline = time.monotonic() + 60
        while _spent(spinner.pid) - spent < 0.5:
            assert time.monotonic() < deadline, "the process gets no time at all"
            time.sleep(0.05)
        own, other = with_it.cores(), without_it.cores()
    # Then it counts as other load for those alone to whom it is a stranger
    assert own is not None
    assert other is not None
    assert other > own


def _spent(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("flags\t\t: fpu sse4_2 avx avx2 avx_vnni", "avx_vnni"),
        ("flags\t\t: fpu avx512f avx512_vnni amx_tile amx_int8", "amx_int8"),
        ("flags\t\t: fpu sse4_2 avx2", "avx2"),
        ("Features\t: fp asimd evtstrm asimddp", "neon_dotprod"),
        ("Features\t: fp asimd evtstrm", "neon"),
        ("nothing that we know", None),
    ],
)
def test_the_widest_instructions_are_found(cpuinfo: str, name: str | None) -> None:
    assert widest(cpuinfo) == name
