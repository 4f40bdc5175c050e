"""The stack under measurement, and its processes."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from contract.settings import Settings
from modelpress.client import Client
from modelpress.up import Stack

SCRATCH = Path(__file__).parent / "scratch"


@contextmanager
def running(**settings: object) -> Iterator[tuple[Stack, Client]]:
    """A fresh stack on a free port, its data on this checkout's disk."""
    SCRATCH.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=SCRATCH) as folder:
        chosen = Settings.model_validate({"port": 0, "data_dir": Path(folder)} | settings)
        with Stack(chosen) as stack, Client(stack.url) as client:
            yield stack, client


def process_of(module: str) -> psutil.Process:
    """The topmost process below this one that runs `python -m MODULE`."""
    for process in psutil.Process().children(recursive=True):
        line = process.cmdline()
        if any(pair == ("-m", module) for pair in itertools.pairwise(line)):
            return process
    raise LookupError(module)


def forget_peak(process: psutil.Process) -> None:
    """Let the kernel count the process's peak memory anew from here (proc(5), clear_refs)."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_bytes(process: psutil.Process) -> int:
    """The largest resident memory since `forget_peak`."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
