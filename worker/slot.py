"""One slot of a worker: a process that waits for rings and carries out jobs, one at a time."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator

from contract.settings import Settings
from contract.worker import WorkerCard
from storage.blobs import open_blobs
from storage.checkpoints import Checkpoints
from storage.claims import Claims
from storage.database import migrate, open_database
from storage.faults import NOT_NOW
from storage.logs import Logs
from storage.outbox import Outbox
from storage.terms import Terms
from storage.values import Claim
from storage.workers import Workers
from worker import sandbox
from worker.board import Board
from worker.endings import Archive
from worker.process import Recipe
from worker.scratch import remove_stale
from worker.spare import Spare
from worker.staging import threads_of
from worker.supervise import Supervisor

logger = logging.getLogger(__name__)

#: How often a worker says that it is there, in seconds.
ANNOUNCE_SECONDS = 10.0
#: How soon a database that did not answer is tried again, in seconds.
_TRY_AGAIN_SECONDS = 1.0


class Slot:
    """The composition root of the process that does the work; made after the fork."""

    def __init__(
        self, settings: Settings, card: WorkerCard, *, board: Board, number: int, runner: tuple[str, ...]
    ) -> None:
        self._settings = settings
        self._card = card
        self._board = board
        self._number = number
        #: Set where only this slot is told to stop.
        self._terminated = threading.Event()
        #: Set once the database has been reached.
        self._ready = threading.Event()
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        database, terms = open_database(settings.database), Terms.of(settings)
        self._outbox = Outbox(database)
        self._workers = Workers(database, terms)
        self._claims = Claims(database, terms)
        blobs = open_blobs(
            settings.blobs, database, spool=settings.scratch / "spool", min_free_bytes=settings.min_free_bytes
        )
        archive = Archive(self._claims, Checkpoints(database), Logs(database), blobs)
        bounds = sandbox.Bounds(file_bytes=settings.max_upload_bytes)
        recipe = Recipe(runner, settings.scratch / "jobs", threads=threads_of(card), bounds=bounds)
        self._spare = Spare(recipe, warm=settings.warm_spare)
        self._supervisor = Supervisor(archive, self._spare, card, settings, stopping=self._stopping)

    def start(self) -> None:
        """Make the spare and say who is there, over and over. For the main thread: the runners die with theirs."""
        self._board.set_busy(self._number, False)
        sandbox.adopt_orphans()
        remove_stale(self._settings.scratch / "jobs")
        self._spare.prepare()
        threading.Thread(target=self._announce, name="announce", daemon=True).start()

    def answer_ring(self) -> None:
        """Carry out the best job there is, and then the next, for its ring may be lost; none is as well."""
        with self._sigterm_heard():
            while (claim := self._claim()) is not None:
                self._carry_out(claim)

    def close(self) -> None:
        """End the spare; where the worker shuts down, say so."""
        self._spare.close()
        if self._board.stopping() and self._number == 0:
            with contextlib.suppress(*NOT_NOW):
                self._workers.leave(self._card.id)

    def _carry_out(self, claim: Claim) -> None:
        logger.info("%s: attempt %d begins", claim.job_id, claim.attempt)
        self._board.set_busy(self._number, True)
        try:
            self._supervisor.carry_out(claim)
        finally:
            self._board.set_busy(self._number, False)

    def _stopping(self) -> bool:
        return self._board.stopping() or self._terminated.is_set()

    def _claim(self) -> Claim | None:
        """A ring is heard once: it waits for a database that is away or full."""
        while not self._stopping():
            try:
                if self._ready.wait(_TRY_AGAIN_SECONDS):
                    return self._claims.claim(self._card)
            except NOT_NOW as failure:
                logger.warning("no claim: %s", failure)
                time.sleep(_TRY_AGAIN_SECONDS)
        return None

    @contextlib.contextmanager
    def _sigterm_heard(self) -> Iterator[None]:
        """While a job runs, SIGTERM to this process alone hands the job back instead of raising in the midst of it."""
        before = signal.signal(signal.SIGTERM, lambda *_: self._terminated.set())
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if self._terminated.is_set():
            raise SystemExit

    def _announce(self) -> None:
        while not self._stopping():
            try:
                self._say_who_is_here()
                time.sleep(ANNOUNCE_SECONDS)
            except NOT_NOW as failure:
                logger.warning("not announced: %s", failure)
                time.sleep(_TRY_AGAIN_SECONDS)
            except Exception:
                # A worker that has fallen silent counts as gone while it works on.
                logger.exception("not announced")
                time.sleep(ANNOUNCE_SECONDS)

    def _say_who_is_here(self) -> None:
        if not self._ready.is_set():
            migrate(self._settings.database)
            # Jobs may wait whose rings were lost with a broker, or with the slot that this one replaces.
            self._outbox.ring(self._card.devices)
            self._ready.set()
        # The first slot speaks for the worker, whose card is one row.
        if self._number == 0:
            self._workers.announce(self._card, busy=self._board.busy())
