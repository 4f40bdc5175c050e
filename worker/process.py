"""A runner as its supervisor sees it: a process with a folder, three pipes and an end that leaves nothing behind."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
from psutil import Process

from worker import sandbox
from worker.messages import ToRunner, line
from worker.scratch import Folder

#: The runner of this house; tests bring others that behave badly.
RUNNER = (sys.executable, "-I", "-m", "worker.runner")

#: Room in the pipe to the runner; what Linux lets anyone have.
_ORDERS_BYTES = 1024**2
#: How long killed processes get to be gone.
_KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Recipe:
    """How a runner is started."""

    #: Takes the number of the pipe, its parent's process id and the largest file in bytes as its last arguments.
    command: tuple[str, ...]
    #: Where its folder is made.
    scratch: Path
    threads: int
    bounds: sandbox.Bounds


@dataclass(frozen=True)
class Pipes:
    """This side's ends of the pipes to a runner."""

    orders: BinaryIO
    words: int
    log: int

    @classmethod
    def of(cls, orders: int, *, words: int, log: int) -> "Pipes":
        """Take over these file descriptors."""
        # A whole assignment fits, so that telling it never waits for the runner to listen.
        fcntl.fcntl(orders, fcntl.F_SETPIPE_SZ, _ORDERS_BYTES)
        os.set_blocking(words, False)
        os.set_blocking(log, False)
        return cls(os.fdopen(orders, "wb"), words, log)

    def close(self) -> None:
        """Close them; what the runner has not heard is dropped."""
        os.close(self.words)
        os.close(self.log)
        with contextlib.suppress(BrokenPipeError):
            self.orders.close()


class RunnerProcess:
    """One runner, from its start to the last of its descendants."""

    def __init__(self, popen: subprocess.Popen[bytes], folder: Folder, *, pipes: Pipes, others: set[Process]) -> None:
        self._popen = popen
        self._pipes = pipes
        #: Children of this process that were there before; they and theirs are none of the runner's.
        self._others = others
        self._killing = threading.Lock()
        self.folder = folder
        #: Read ends of the pipe for messages and of the one for whatever is printed; they never block.
        self.words, self.log = pipes.words, pipes.log
        #: Becomes readable when the process has ended.
        self.ended = os.pidfd_open(popen.pid)

    @classmethod
    def start(cls, recipe: Recipe) -> "RunnerProcess":
        """Start a runner; it loads torch and waits for its assignment."""
        others = _children()
        folder = Folder.make(recipe.scratch)
        (orders, our_orders), (our_words, words), (our_log, log) = os.pipe(), os.pipe(), os.pipe()
        popen = subprocess.Popen(
            (*recipe.command, str(words), str(os.getpid()), str(recipe.bounds.file_bytes)),
            cwd=folder.path,
            env=sandbox.environment(folder.path, threads=recipe.threads),
            stdin=orders,
            stdout=log,
            stderr=log,
            pass_fds=(words,),
            start_new_session=True,
        )
        for theirs in (orders, words, log):
            os.close(theirs)
        return cls(popen, folder, pipes=Pipes.of(our_orders, words=our_words, log=our_log), others=others)

    @property
    def pid(self) -> int:
        """The runner's process id, and its session's."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the runner has not ended."""
        with self._killing:
            return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the runner, negative for the signal that ended it; none while it lives."""
        return self._popen.returncode

    def say(self, message: ToRunner) -> None:
        """Send one message; one that has ended hears nothing, and its end is seen elsewhere."""
        with contextlib.suppress(BrokenPipeError):
            self._pipes.orders.write(line(message))
            self._pipes.orders.flush()

    def kill(self) -> None:
        """Kill the runner and its session at once, from any thread."""
        with self._killing:
            if self._popen.poll() is None:
                os.killpg(self._popen.pid, signal.SIGKILL)

    def family(self) -> list[Process]:
        """The runner and all that it started, orphans among them where this process adopts them."""
        mine = _children() - self._others
        return [process for child in mine for process in (child, *_below(child))]

    def kill_all(self) -> None:
        """Kill the runner and whatever is left of what it started; returns when all of it is gone."""
        self.kill()
        with self._killing:
            self._popen.wait(_KILL_SECONDS)
        deadline = time.monotonic() + _KILL_SECONDS
        while (left := self.family()) and time.monotonic() < deadline:
            for process in left:
                _kill(process)
            psutil.wait_procs(left, timeout=0.5)

    def close(self) -> None:
        """Leave nothing: no process, no open pipe, no folder."""
        self.kill_all()
        os.close(self.ended)
        self._pipes.close()
        self.folder.remove()


def _children() -> set[Process]:
    return set(Process().children())


def _below(process: Process) -> list[Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(process: Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
