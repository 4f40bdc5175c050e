"""The warm spare: a runner that has torch loaded before there is a job for it."""

from worker.process import Recipe, RunnerProcess


class Spare:
    """Holds at most one runner ready; one job per runner."""

    def __init__(self, recipe: Recipe, *, warm: bool) -> None:
        self._recipe = recipe
        #: Whether to start runners ahead of their jobs.
        self._warm = warm
        self._waiting: RunnerProcess | None = None

    def prepare(self) -> None:
        """Start the next runner. To be called between jobs: loading torch would disturb what a job measures."""
        if self._warm and self._waiting is None:
            self._waiting = RunnerProcess.start(self._recipe)

    def take(self) -> RunnerProcess:
        """The runner that waits, or else a cold one."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.alive:
            return waiting
        if waiting is not None:
            waiting.close()
        return RunnerProcess.start(self._recipe)

    def close(self) -> None:
        """End the runner that waits."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
