"""Who is there to work, asked at most once a second."""

import time
from threading import Lock

from contract.artifact import OutputFormat, Quantizer
from contract.worker import LiveWorker
from storage.workers import Workers

_FRESH_SECONDS = 1.0


class Workforce:
    """The live workers, as of a second ago at most."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = Lock()
        self._asked = -_FRESH_SECONDS
        self._live: tuple[LiveWorker, ...] = ()

    def live(self) -> tuple[LiveWorker, ...]:
        """The workers that were heard of lately."""
        with self._lock:
            if time.monotonic() - self._asked >= _FRESH_SECONDS:
                self._live = self._workers.live()
                self._asked = time.monotonic()
            return self._live

    def devices(self) -> tuple[str, ...]:
        """Every device that a live worker has."""
        return tuple(sorted({device for worker in self.live() for device in worker.devices}))

    def outputs(self) -> tuple[OutputFormat, ...]:
        """Every format that a live worker can write."""
        return tuple(sorted({output for worker in self.live() for output in worker.outputs}))

    def quantizers(self) -> tuple[Quantizer, ...]:
        """Everyone who can choose the integers of a file on some live worker."""
        return tuple(sorted({quantizer for worker in self.live() for quantizer in worker.quantizers}))

    def runtimes(self) -> dict[str, str]:
        """The runtimes of the live workers, with their versions."""
        return {name: version for worker in self.live() for name, version in sorted(worker.runtimes.items())}
