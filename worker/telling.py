"""Tells the archive, under the fence, what a runner says of its job while it runs."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from contract.failures import JobFailure, StorageFull, Unavailable, WorkerError
from contract.job import Progress
from storage.logs import LOG_CAP_BYTES
from storage.values import Claim
from worker.endings import Archive, Lost, Over, insist
from worker.joblog import JobLog
from worker.keeping import keep_file
from worker.messages import CheckpointLeft, StepStarted, StepSucceeded
from worker.scratch import Folder

logger = logging.getLogger(__name__)

#: Progress reaches the database at most so often, in seconds.
_PROGRESS_SECONDS = 1.0


class Teller:
    """Raises `Over` where the archive takes nothing of this attempt any more, and what `check` raises."""

    def __init__(
        self, archive: Archive, claim: Claim, *, check: Callable[[], None], folder: Folder, code_version: str
    ) -> None:
        self._archive = archive
        self._claim = claim
        #: Raises where the attempt must not wait.
        self._check = check
        self._folder = folder
        self._code_version = code_version
        self._progress: Progress | None = None
        self._progress_at = time.monotonic()
        self.log = JobLog(self._append, scratch=folder.path, cap_bytes=LOG_CAP_BYTES)

    def begin(self) -> None:
        """The attempt has begun."""
        self.log.note(f"attempt {self._claim.attempt}")
        count = len(self._claim.spec.steps)
        self.progress(Progress(fraction=0, step_count=count, phase="preparing", updated_at=datetime.now(UTC)))
        self.catch_up()

    def progress(self, progress: Progress) -> None:
        """Remember how far it is; only the newest counts."""
        self._progress = progress

    def step_started(self, word: StepStarted) -> None:
        """A step begins."""
        self.log.note(f"step {word.index} {self._method(word.index)}")
        self._under_fence(lambda: self._archive.claims.step_started(self._claim, word.index))

    def step_succeeded(self, word: StepSucceeded) -> None:
        """A step is done."""
        self.log.note(f"step {word.index} {self._method(word.index)} succeeded")
        self._under_fence(lambda: self._archive.claims.step_succeeded(self._claim, word.index, report=word.report))

    def checkpoint(self, word: CheckpointLeft) -> None:
        """Keep a checkpoint. One that cannot be kept costs a resumption, not the job."""
        path = self._folder.checkpoints / word.file
        try:
            blob = keep_file(self._archive.blobs, self._claim, path)
            kept = self._archive.checkpoints.keep(
                self._claim, blob, code_version=self._code_version, position=word.position
            )
        except (JobFailure, Unavailable) as failure:
            logger.warning("%s: a checkpoint is not kept: %s", self._claim.job_id, failure)
        else:
            self._require(kept)
        path.unlink(missing_ok=True)

    def catch_up(self) -> None:
        """Pass on what has gathered, where it is time; the database may be away meanwhile."""
        try:
            self.log.flush_if_due()
            if self._progress is not None and time.monotonic() >= self._progress_at:
                self._progress_at = time.monotonic() + _PROGRESS_SECONDS
                self._require(self._archive.claims.report_progress(self._claim, self._progress))
                self._progress = None
        except (Unavailable, StorageFull) as failure:
            logger.warning("%s: what was told is not kept: %s", self._claim.job_id, failure)

    def close(self) -> None:
        """Pass on the rest of the log."""
        try:
            self.log.flush()
        except (Unavailable, StorageFull) as failure:
            logger.warning("%s: the end of its log is not kept: %s", self._claim.job_id, failure)

    def _append(self, content: bytes) -> bool:
        return self._archive.logs.append(self._claim, content)

    def _method(self, index: int) -> str:
        steps = self._claim.spec.steps
        if index >= len(steps):
            raise WorkerError("The process that ran the job tells of a step that the job has not.")
        return steps[index].method

    def _under_fence(self, act: Callable[[], bool]) -> None:
        self._require(insist(act, check=self._check))

    def _require(self, newest: bool) -> None:
        if not newest:
            raise Over(Lost())
