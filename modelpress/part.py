"""One process of the stack: started on a leash, its output in a file, started anew when it dies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Waits before a process is started anew, in seconds: doubling from the first to the last.
_FIRST_WAIT, _LAST_WAIT = 0.2, 10.0
#: A process that lived for so long, in seconds, is started anew as if it had never died before.
_STABLE_SECONDS = 30.0
#: A log of this size is begun anew with the stack, in bytes.
_MAX_LOG_BYTES = 10 * 1024**2
Kind = Literal["broker", "api", "worker"]
_LEASH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))


@dataclass(frozen=True)
class Recipe:
    """What a part of the stack is."""

    name: str
    #: Parts of one kind are ended together.
    kind: Kind
    command: tuple[str, ...]
    #: The whole environment.
    environment: Mapping[str, str]
    log: Path
    #: Whether it does its work.
    ready: Callable[[], bool]
    #: How long it gets to end by itself when it is told to, in seconds.
    grace_seconds: float


class Part:
    """Must be started, looked after and ended by one thread: the process ends with the thread that started it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._wait = _FIRST_WAIT
        #: When to start it anew; none while it lives.
        self._start_at: float | None = None

    def start(self) -> None:
        """Start the process."""
        with self.recipe.log.open("ab") as log:
            self._process = subprocess.Popen(
                (*_LEASH, str(os.getpid()), *self.recipe.command),
                env=dict(self.recipe.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started_at = time.monotonic()
        self._start_at = None

    @property
    def cause_of_death(self) -> str | None:
        """How the process ended; none while it lives."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def look_after(self) -> str | None:
        """Start it anew where it has died, after a while; returns what there is to tell."""
        cause = self.cause_of_death
        if cause is None:
            return None
        if self._start_at is None:
            return self._plan(cause)
        if time.monotonic() >= self._start_at:
            self.start()
        return None

    def _plan(self, cause: str) -> str:
        now = time.monotonic()
        self._wait = _FIRST_WAIT if now - self._started_at > _STABLE_SECONDS else self._wait
        told = f"{self.recipe.name} ended ({cause}); starts anew in {self._wait:g} s, its log is {self.recipe.log}"
        self._start_at = now + self._wait
        self._wait = min(_LAST_WAIT, 2 * self._wait)
        return told

    def ask_to_end(self) -> None:
        """Tell the process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end(self) -> None:
        """Wait for the end of a process that was asked to; one that takes too long is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(self.recipe.grace_seconds)
        except subprocess.TimeoutExpired:
            # What it has started ends with it: everything below hangs on a leash of its own.
            self._process.kill()
            self._process.wait()


def begin_log(path: Path) -> None:
    """Make room for a log, and forget one that has grown large."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            path.unlink()


def last_lines(path: Path, count: int = 12) -> str:
    """The end of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
