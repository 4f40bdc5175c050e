"""One watcher for all who wait for news of a job, in place of a query each."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.concurrency import run_in_threadpool

from contract.failures import Unavailable
from storage.events import Events

log = logging.getLogger("modelpress.watcher")

_EVERY_SECONDS = 0.25
#: In place of a number for a job that is no longer there.
GONE = 2**62


class Watcher:
    """Looks for new events every 250 ms while somebody waits, and wakes all who do."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._watched: Counter[str] = Counter()
        self._newest: dict[str, int] = {}
        self._news = asyncio.Condition()
        self._somebody = asyncio.Event()
        #: Whether the process is about to end, so that nobody should wait any longer.
        self.closed = False

    @staticmethod
    def now() -> float:
        """A clock that only goes forward, in seconds."""
        return time.monotonic()

    def close(self) -> None:
        """Let all who wait go, within 250 ms; a signal handler may call this."""
        self.closed = True

    @contextmanager
    def watching(self, job_id: str) -> Iterator[None]:
        """Within this block the job is looked at."""
        self._watched[job_id] += 1
        self._somebody.set()
        try:
            yield
        finally:
            self._watched[job_id] -= 1
            if not self._watched[job_id]:
                del self._watched[job_id]
                self._newest.pop(job_id, None)

    async def wait(self, job_id: str, *, past: int, seconds: float) -> int:
        """Return when the job has an event past this number, is gone, or the time is over: the newest number.

        Also when the watcher is closed.
        """

        def has_news() -> bool:
            return self.closed or self._newest.get(job_id, past) > past

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(has_news)
        return self._newest.get(job_id, past)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._somebody.wait()
            if self._watched:
                await self._look()
                await asyncio.sleep(_EVERY_SECONDS)
            else:
                self._somebody.clear()

    async def _look(self) -> None:
        watched = list(self._watched)
        try:
            found = await run_in_threadpool(self._events.newest, watched)
            self._newest = {job_id: found.get(job_id, GONE) for job_id in watched}
        except Unavailable as failure:
            # Whoever waits keeps waiting; the next look may succeed.
            log.warning("no news: %s", failure)
        async with self._news:
            self._news.notify_all()
