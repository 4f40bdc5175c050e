"""The Celery application and the worker that listens with it."""

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import psutil
from billiard.util import Finalize
from celery import Celery, bootsteps, signals
from celery.apps.worker import Worker
from kombu import Queue

from contract.ring import DEVICES, TRANSPORT_OPTIONS
from contract.settings import Settings
from worker import sandbox
from worker.board import Board
from worker.card import write_card
from worker.process import RUNNER
from worker.scratch import Folder, remove_stale
from worker.tasks import answer_rings

#: How often the main process looks for what a killed slot has left, in seconds.
_ORPHANS_SECONDS = 2.0


def celery_app(settings: Settings) -> Celery:
    """Celery as a doorbell: acknowledged when heard, nothing fetched ahead, no results, JSON only."""
    app = Celery("modelpress", broker=settings.broker, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=60,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=dict(TRANSPORT_OPTIONS),
        task_create_missing_queues=False,
        task_queues=[Queue(device, routing_key=device) for device in DEVICES],
        task_default_queue="cpu",
    )
    return app


def serve(settings: Settings, *, runner: tuple[str, ...] = RUNNER) -> int:
    """Listen until told to stop; returns the exit code. Jobs that run at SIGTERM are handed back first."""
    _keep_temporary_files_in(settings.scratch / "workers")
    card, board = write_card(settings), Board(settings.slots)
    app = celery_app(settings)
    signals.setup_logging.connect(_set_up_logging, weak=False)
    signals.worker_shutting_down.connect(lambda **_: board.ask_to_stop(), weak=False)
    answer_rings(app, settings, card, board=board, runner=runner)
    app.steps["worker"].add(OrphanSweep)
    sandbox.adopt_orphans()
    worker = Worker(
        app=app,
        hostname=f"{card.id}@{card.host}",
        pool="prefork",
        concurrency=settings.slots,
        queues=list(card.devices),
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _keep_temporary_files_in(root: Path) -> None:
    """Have the files of Celery's pool lie in a folder under `root`, which is swept when this process is killed."""
    remove_stale(root)
    folder = Folder.make(root)
    tempfile.tempdir = str(folder.temporary)
    # Behind those that the pool has for its own files, at -100.
    Finalize(None, folder.remove, exitpriority=-101)


class OrphanSweep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ends what a killed slot has left: its runner dies with it, and what that had started comes to this process."""

    requires = ("celery.worker.components:Timer",)

    def start(self, worker: Any) -> None:
        """Begin to sweep, every few seconds."""
        worker.timer.call_repeatedly(_ORPHANS_SECONDS, end_orphans)


def end_orphans() -> None:
    """End children that are no slot: slots share this process's session, and runners and theirs have their own."""
    ours = os.getsid(0)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(child.pid) != ours:
                child.kill()
                child.wait(1)


def _set_up_logging(**_: object) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("worker").setLevel(logging.INFO)
