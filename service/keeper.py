"""The keeper: rings what must be rung, and puts right what time has undone. Any number of them may run."""

import logging
import threading
import time
from collections.abc import Callable
from itertools import takewhile

from contract.failures import Failure
from service.bell import Bell, BellOutOfOrder
from storage.blobs import Blobs
from storage.idempotency import Idempotency
from storage.outbox import Outbox, Ring
from storage.upkeep import Upkeep
from storage.workers import Workers

log = logging.getLogger("modelpress.keeper")

#: Rings that no request of this process has announced are looked for so often, in seconds.
_LOOK_SECONDS = 1.0
#: Rings that follow each other more closely are sent together, for sending costs two commits, in seconds.
_PACE_SECONDS = 0.05
#: Old answers, silent workers and unneeded blobs can wait, in seconds.
_RARELY_SECONDS = 60.0


class Keeper:
    """A thread that relays rings at once and does the upkeep from time to time."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        bell: Bell,
        upkeep: Upkeep,
        blobs: Blobs,
        idempotency: Idempotency,
        workers: Workers,
        every_seconds: float,
    ) -> None:
        self._outbox, self._bell = outbox, bell
        self._chores: tuple[Callable[[], object], ...] = (
            upkeep.reap,
            upkeep.fail_overdue,
            upkeep.sweep,
            upkeep.expire,
        )
        self._rare_chores: tuple[Callable[[], object], ...] = (blobs.garbage, idempotency.forget, workers.forget)
        self._every_seconds = every_seconds
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self.run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to ring for."""
        self._woken.set()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bell.close()

    def run(self) -> None:
        """Keep house until stopped."""
        upkeep_at = rare_at = 0.0
        while not self._stopped.is_set():
            self._do(self._relay)
            relayed_at = time.monotonic()
            if relayed_at >= upkeep_at:
                self._do(*self._chores, self._relay)
                upkeep_at = time.monotonic() + self._every_seconds
            if time.monotonic() >= rare_at:
                self._do(*self._rare_chores)
                rare_at = time.monotonic() + _RARELY_SECONDS
            self._woken.wait(min(_LOOK_SECONDS, self._every_seconds))
            self._woken.clear()
            # The first of many rings goes at once; those behind it gather meanwhile.
            self._stopped.wait(max(0.0, relayed_at + _PACE_SECONDS - time.monotonic()))

    def _do(self, *chores: Callable[[], object]) -> None:
        for chore in chores:
            try:
                chore()
            except Failure as failure:
                log.warning("%s: %s", getattr(chore, "__qualname__", chore), failure)
            except Exception:
                # The house must be kept whatever one chore meets.
                log.exception("%s failed", getattr(chore, "__qualname__", chore))

    def _relay(self) -> None:
        rings = self._outbox.due()
        if not rings:
            return
        # A broker that does not take one ring takes none of those behind it either.
        sent = list(takewhile(self._rung, rings))
        if sent:
            self._outbox.mark_sent(sent)
        if len(sent) < len(rings):
            self._outbox.mark_failed(rings[len(sent) :])

    def _rung(self, ring: Ring) -> bool:
        try:
            self._bell.ring(ring.device)
        except BellOutOfOrder:
            log.warning("the broker does not answer; ring %s is tried again", ring.id)
            return False
        return True
