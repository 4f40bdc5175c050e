"""How an attempt can end, and what is then written."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from contract.artifact import ArtifactFile
from contract.failures import JobFailure, Problem
from contract.job import JobResult, JobState
from storage.blobs import Blobs
from storage.checkpoints import Checkpoints
from storage.claims import Claims
from storage.faults import NOT_NOW
from storage.logs import Logs
from storage.values import Claim, JobEnd
from worker.keeping import keep_artifact, keep_log
from worker.pulse import Pulse, Verdict

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Wait before storage that did not answer is asked again, in seconds.
_ASK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Succeeded:
    """The runner says that all is done and proven."""

    result: JobResult
    files: tuple[ArtifactFile, ...]


@dataclass(frozen=True)
class Refused:
    """The job cannot be done, and trying again would not help."""

    problem: Problem
    #: What the runner had written until then.
    files: tuple[ArtifactFile, ...] = field(default=())


@dataclass(frozen=True)
class Crashed:
    """The runner died without a word; that may have been chance."""

    problem: Problem
    #: What the runner had told of until then.
    files: tuple[ArtifactFile, ...] = field(default=())


@dataclass(frozen=True)
class Canceled:
    """The client asked for it."""


@dataclass(frozen=True)
class HandedBack:
    """The worker shuts down; the next attempt goes on from the last checkpoint."""


@dataclass(frozen=True)
class Lost:
    """The claim is no longer the newest: nothing may be written."""


Ending = Succeeded | Refused | Crashed | Canceled | HandedBack | Lost


class Over(Exception):
    """An attempt ends here, however deep in its work it is."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(ending)


@dataclass(frozen=True)
class Archive:
    """Where a supervisor keeps things."""

    claims: Claims
    checkpoints: Checkpoints
    logs: Logs
    blobs: Blobs


def insist(act: Callable[[], T], *, check: Callable[[], None]) -> T:
    """Ask until there is an answer other than not now; `check` raises where it must not be waited for any more."""
    while True:
        try:
            return act()
        except NOT_NOW:
            time.sleep(_ASK_AGAIN_SECONDS)
            check()


@dataclass(frozen=True)
class Conclusion:
    """Writes the end of one attempt; the runner and all that it started are gone."""

    archive: Archive
    claim: Claim
    pulse: Pulse
    #: Raises `Over` or a failure where the attempt must not wait.
    check: Callable[[], None]
    #: Where the runner left its files.
    out: Path
    #: Starts after which a crash is final.
    crashes_forgiven: int

    def write(self, ending: Ending) -> None:
        """Publish what the ending allows, under the fence."""
        try:
            self._write(ending)
        except Over as over:
            # What a check ends waits for nothing but the database, and that ends with the claim.
            self.write(over.ending)

    def _write(self, ending: Ending) -> None:
        match ending:
            case Succeeded():
                self._finish(self._success(ending))
            case Refused():
                self._finish(self._failure(ending))
            case Crashed() if self.claim.attempt <= self.crashes_forgiven:
                self._say(lambda: self.archive.claims.put_back(self.claim))
            case Crashed():
                self._finish(self._failure(Refused(ending.problem, ending.files)))
            case Canceled():
                self._finish(JobEnd(state=JobState.CANCELED, artifacts=self._log_of_canceled()))
            case HandedBack():
                self._say(lambda: self.archive.claims.release(self.claim))
            case Lost():
                logger.warning("%s: attempt %d was lost", self.claim.job_id, self.claim.attempt)

    def _success(self, ending: Succeeded) -> JobEnd:
        try:
            files = tuple(self._file(file) for file in ending.files)
        except JobFailure as failure:
            return self._failure(Refused(failure.problem()))
        return JobEnd(state=JobState.SUCCEEDED, result=ending.result, artifacts=files + self._log(partial=False))

    def _failure(self, ending: Refused) -> JobEnd:
        try:
            files = tuple(self._file(file.model_copy(update={"partial": True})) for file in ending.files)
        except JobFailure as failure:
            logger.warning("%s: what was left is not kept: %s", self.claim.job_id, failure)
            files = ()
        return JobEnd(state=JobState.FAILED, error=ending.problem, artifacts=files + self._log(partial=True))

    def _file(self, file: ArtifactFile) -> ArtifactFile:
        return self._keep(lambda: keep_artifact(self.archive.blobs, self.claim, file, out=self.out))

    def _log(self, *, partial: bool) -> tuple[ArtifactFile, ...]:
        try:
            return (self._keep(lambda: keep_log(self.archive.blobs, self.claim, self.archive.logs, partial=partial)),)
        except JobFailure as failure:
            logger.warning("%s: its log is not kept: %s", self.claim.job_id, failure)
            return ()

    def _log_of_canceled(self) -> tuple[ArtifactFile, ...]:
        try:
            return self._log(partial=True)
        except Over:
            logger.warning("%s: its log is not kept: it was canceled", self.claim.job_id)
            return ()

    def _finish(self, end: JobEnd) -> None:
        state = self._say(lambda: self.archive.claims.finish(self.claim, end))
        logger.info("%s: attempt %d %s", self.claim.job_id, self.claim.attempt, state.value if state else "was lost")

    def _keep(self, act: Callable[[], T]) -> T:
        return insist(act, check=self.check)

    def _say(self, act: Callable[[], T]) -> T:
        return insist(act, check=self._check_claim)

    def _check_claim(self) -> None:
        if self.pulse.verdict is Verdict.LOST:
            raise Over(Lost())
