"""The one task: a ring. It carries nothing, and whoever hears it takes the jobs that it can run, the best first."""

from functools import cache
from typing import TYPE_CHECKING

from billiard.process import current_process
from celery import Celery, signals

from contract.ring import RING_TASK
from contract.settings import Settings
from contract.worker import WorkerCard
from worker.board import Board

if TYPE_CHECKING:
    from worker.slot import Slot


def answer_rings(app: Celery, settings: Settings, card: WorkerCard, *, board: Board, runner: tuple[str, ...]) -> None:
    """Have each process of the pool hold a slot, made after the fork, and answer rings with it."""

    @cache
    def slot() -> "Slot":
        # Imported here: the main process, which only listens, stays small and opens no database before it forks.
        from worker.slot import Slot

        opened = Slot(settings, card, board=board, number=current_process().index, runner=runner)
        opened.start()
        return opened

    @app.task(name=RING_TASK)  # type: ignore[untyped-decorator]
    def ring() -> None:
        slot().answer_ring()

    signals.worker_process_init.connect(lambda **_: slot(), weak=False)
    signals.worker_process_shutdown.connect(lambda **_: slot().close(), weak=False)
