"""A real worker beside a bench, a real broker between them."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from contract.ring import RING_TASK
from storage.workers import Workers
from tests.deadline import until
from tests.faults.bench import Bench
from worker.app import celery_app

_SCRIPTED_WORKER = Path(__file__).with_name("scripted_worker.py")


class House:
    """Rings, kills, pauses and stops a worker whose runners do as their jobs say."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._celery = celery_app(bench.settings)
        self._workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> psutil.Process:
        """Start one and wait until it has said that it is there."""
        known = len(self.live())
        environment = {**os.environ, **self.bench.settings.environment()}
        worker = subprocess.Popen((sys.executable, str(_SCRIPTED_WORKER)), env=environment, start_new_session=True)
        self._workers.append(worker)
        until(lambda: len(self.live()) > known)
        return psutil.Process(worker.pid)

    def live(self) -> list[str]:
        """Ids of the workers that have been heard of."""
        return [worker.id for worker in Workers(self.bench.database).live()]

    def ring(self, times: int = 1) -> None:
        """Ring at the doorbell."""
        for _ in range(times):
            self._celery.send_task(RING_TASK, queue="cpu", ignore_result=True)

    def stop(self, worker: psutil.Process) -> int:
        """SIGTERM; returns the exit code."""
        worker.terminate()
        return next(one for one in self._workers if one.pid == worker.pid).wait(60)

    def close(self) -> None:
        """Kill every worker with all that it started."""
        for worker in self._workers:
            if worker.poll() is None:
                signal_tree(psutil.Process(worker.pid), signal.SIGCONT)
                signal_tree(psutil.Process(worker.pid), signal.SIGKILL)
                worker.wait()
        self._celery.close()


def tree(worker: psutil.Process) -> list[psutil.Process]:
    """A worker's processes, from the main one down."""
    return [worker, *worker.children(recursive=True)]


def signal_tree(worker: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to every process of a worker; one that goes on may have ended others before they are told."""
    for process in tree(worker):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def slot_of(worker: psutil.Process) -> psutil.Process:
    """The process of the pool that supervises."""
    return next(child for child in worker.children() if os.getsid(child.pid) == worker.pid)


def runners_of(worker: psutil.Process) -> list[psutil.Process]:
    """The runners, one that waits as a spare among them."""
    return slot_of(worker).children()
