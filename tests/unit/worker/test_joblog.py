"""A log comes in whole lines, up to its cap, without a trace of the machine."""

import sys
from pathlib import Path

import psutil

from worker.joblog import JobLog

SCRATCH = Path("/some/where/scratch/jobs/abc")


class Store:
    """Keeps what is appended."""

    def __init__(self) -> None:
        self.kept = b""

    def append(self, content: bytes) -> bool:
        self.kept += content
        return True


def test_folders_of_the_machine_get_plain_names_wherever_the_bytes_are_cut() -> None:
    # Given a line full of paths, which arrives in two pieces
    store = Store()
    log = JobLog(store.append, scratch=SCRATCH, cap_bytes=1000)
    said = f"{SCRATCH}/in/x {Path(psutil.__file__).parent} {sys.prefix}/bin\n".encode()
    # When
    log.feed(said[:20])
    log.flush_if_due()
    log.feed(said[20:])
    log.flush()
    # Then
    assert store.kept == b"job/in/x site-packages/psutil environment/bin\n"


def test_what_is_past_the_cap_is_dropped_but_for_the_byte_that_tells() -> None:
    # Given / When far more is said than may be kept
    store = Store()
    log = JobLog(store.append, scratch=SCRATCH, cap_bytes=100)
    for _ in range(1000):
        log.feed(b"x" * 99 + b"\n")
        log.flush()
    # Then
    assert len(store.kept) == 101


def test_a_line_without_an_end_is_passed_on_at_last() -> None:
    # Given a progress bar that never ends its line
    store = Store()
    log = JobLog(store.append, scratch=SCRATCH, cap_bytes=100_000)
    # When it has said much
    log.feed(b"." * 10_000)
    log.flush_if_due()
    # Then
    assert store.kept == b"." * 10_000
