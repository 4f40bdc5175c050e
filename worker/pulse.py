"""The heartbeat of one attempt: a thread that keeps the lease and learns when to stop."""

import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

from storage.faults import NOT_NOW
from storage.values import Beat

#: How often the database is asked whether the job was cancelled, in seconds; a read, where a heartbeat writes.
LOOK_SECONDS = 0.5


class Verdict(Enum):
    """Why an attempt must end."""

    #: The client asked for it.
    CANCELED = "canceled"
    #: Another worker may have the job: nothing of this attempt will be taken.
    LOST = "lost"


def patience(lease_seconds: float) -> float:
    """How long an attempt goes on without an accepted heartbeat: it ends before its lease does, in seconds."""
    return max(lease_seconds - 15, lease_seconds * 0.75)


class Pulse:
    """Beats from its start to its end. On a verdict it calls `stop` at once, from a thread of its own.

    A second thread holds the fuse, so that a database which never answers ends the attempt too.
    """

    def __init__(
        self,
        *,
        beat: Callable[[], Beat],
        look: Callable[[], Beat],
        stop: Callable[[], None],
        heartbeat_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._beat = beat
        self._look = look
        self._stop = stop
        self._heartbeat_seconds = heartbeat_seconds
        self._patience = patience(lease_seconds)
        self._over = threading.Event()
        # The claim itself was the first beat.
        self._heard_at = time.monotonic()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._run, self._burn)]
        #: None while the attempt may go on.
        self.verdict: Verdict | None = None

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        next_beat = self._heard_at + self._heartbeat_seconds
        while not self._over.wait(min(LOOK_SECONDS, self._heartbeat_seconds)):
            asked_at = time.monotonic()
            due = asked_at >= next_beat
            answer = _ask(self._beat if due else self._look)
            if answer is None:
                continue
            if due:
                next_beat = asked_at + self._heartbeat_seconds
                self._heard_at = asked_at
            self._take(answer)

    def _take(self, answer: Beat) -> None:
        if answer.lost:
            self._end(Verdict.LOST)
        elif answer.cancel_requested:
            self._end(Verdict.CANCELED)

    def _burn(self) -> None:
        while (left := self._heard_at + self._patience - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self._end(Verdict.LOST)

    def _end(self, verdict: Verdict) -> None:
        # What is lost stays lost: a cancel that is heard later changes nothing.
        if self.verdict not in (verdict, Verdict.LOST):
            self.verdict = verdict
            self._stop()


def _ask(question: Callable[[], Beat]) -> Beat | None:
    """The answer, or nothing where the database has none; it is asked again soon, and the fuse burns meanwhile."""
    try:
        return question()
    except NOT_NOW:
        return None
