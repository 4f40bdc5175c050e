"""Carries one claimed job from its claim to its end. Never loads torch.

The main thread of a slot stages the inputs, hands the job to a runner and listens to it; the pulse keeps the lease and
brings cancellations. Whatever ends an attempt, the runner and all that it started are gone before the end is written.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.artifact import ArtifactFile
from contract.failures import Failure, JobCrashed
from contract.settings import Settings
from contract.worker import WorkerCard
from storage.values import Claim
from worker.endings import (
    Archive,
    Canceled,
    Conclusion,
    Crashed,
    Ending,
    HandedBack,
    Lost,
    Over,
    Refused,
    Succeeded,
    insist,
)
from worker.listening import Ear
from worker.messages import (
    CheckpointLeft,
    Failed,
    FilesLeft,
    Finished,
    FromRunner,
    Interrupted,
    Progressed,
    StepStarted,
    StepSucceeded,
    StopPlease,
    Warm,
)
from worker.process import RunnerProcess
from worker.pulse import Pulse, Verdict
from worker.spare import Spare
from worker.staging import Staging
from worker.telling import Teller
from worker.watch import Watch

#: How long the supervisor sleeps at most while the runner is silent, in seconds.
_TICK_SECONDS = 0.2


@dataclass(frozen=True)
class Supervisor:
    """What one slot needs to carry out jobs."""

    archive: Archive
    spare: Spare
    card: WorkerCard
    settings: Settings
    #: Whether the worker has been asked to shut down.
    stopping: Callable[[], bool]

    def carry_out(self, claim: Claim) -> None:
        """Run the job and write how it ended; a new spare waits afterwards."""
        runner = self.spare.take()
        try:
            with self._pulse(claim, runner) as pulse:
                attempt = Attempt(self, claim, runner=runner, pulse=pulse)
                ending = attempt.run()
                forgiven, out = min(1, self.settings.max_attempts - 1), runner.folder.out
                Conclusion(self.archive, claim, pulse, attempt.check_wait, out, crashes_forgiven=forgiven).write(ending)
        finally:
            runner.close()
        if not self.stopping():
            self.spare.prepare()

    def _pulse(self, claim: Claim, runner: RunnerProcess) -> Pulse:
        return Pulse(
            beat=lambda: self.archive.claims.heartbeat(claim),
            look=lambda: self.archive.claims.look(claim),
            stop=runner.kill,
            heartbeat_seconds=self.settings.heartbeat_seconds,
            lease_seconds=self.settings.lease_seconds,
        )


class Attempt:
    """One attempt, from the staging of its inputs until its runner is gone."""

    def __init__(self, supervisor: Supervisor, claim: Claim, *, runner: RunnerProcess, pulse: Pulse) -> None:
        self._supervisor = supervisor
        self._claim = claim
        self._runner = runner
        self._pulse = pulse
        self._watch = _watch(claim, runner, most_bytes=supervisor.settings.max_job_memory_bytes)
        self._teller = Teller(
            supervisor.archive,
            claim,
            check=self.check_wait,
            folder=runner.folder,
            code_version=supervisor.card.version,
        )
        self._ear = Ear(runner)
        #: What lies in the runner's folder for the client, should it fail.
        self._left: tuple[ArtifactFile, ...] = ()
        #: When the runner must have handed the job back; none while nobody asked it to.
        self._release_by: float | None = None

    def run(self) -> Ending:
        """How the attempt ended; no process of it is left."""
        try:
            self._begin()
            ending = self._listen()
        except Over as over:
            ending = over.ending
        except Failure as failure:
            ending = Refused(failure.problem(), self._left)
        self._runner.kill_all()
        self._last_prints()
        return ending

    def check_wait(self) -> None:
        """Raise `Over` or a failure where the attempt must not wait for what storage refuses."""
        self._check()
        if self._supervisor.stopping():
            raise Over(HandedBack())

    def _begin(self) -> None:
        self._teller.begin()
        staging = Staging(self._claim, self._runner.folder.inputs, self._fetch)
        self._runner.say(staging.assignment(self._supervisor.card))

    def _fetch(self, sha256: str, path: Path) -> None:
        self.check_wait()
        insist(lambda: self._copy(sha256, path), check=self.check_wait)

    def _copy(self, sha256: str, path: Path) -> None:
        # What an earlier try has left is half a file.
        path.unlink(missing_ok=True)
        self._supervisor.archive.blobs.copy_to(self._claim.tenant, sha256, path=path)

    def _listen(self) -> Ending:
        while True:
            heard = self._ear.turn(_TICK_SECONDS)
            self._check()
            self._teller.log.feed(heard.printed)
            for word in heard.words:
                ending = self._take(word)
                if ending is not None:
                    return ending
            if heard.ended:
                return self._autopsy()
            self._teller.catch_up()
            self._pass_on_stop()

    def _check(self) -> None:
        """Raise `Over` or a failure where the attempt must not go on."""
        if self._pulse.verdict is Verdict.LOST:
            raise Over(Lost())
        if self._pulse.verdict is Verdict.CANCELED:
            raise Over(Canceled())
        if self._release_by is not None and time.monotonic() >= self._release_by:
            raise Over(HandedBack())
        exceeded = self._watch.exceeded()
        if exceeded is not None:
            raise exceeded

    def _take(self, word: FromRunner) -> Ending | None:
        match word:
            case Progressed():
                self._teller.progress(word.progress)
            case StepStarted():
                self._teller.step_started(word)
            case StepSucceeded():
                self._teller.step_succeeded(word)
            case FilesLeft():
                self._left = word.files
            case CheckpointLeft():
                self._teller.checkpoint(word)
            case Finished():
                return Succeeded(word.result, word.files)
            case Failed():
                return Refused(word.problem, word.files)
            case Interrupted():
                return HandedBack()
            case Warm():
                pass
        return None

    def _pass_on_stop(self) -> None:
        if self._release_by is None and self._supervisor.stopping():
            self._release_by = time.monotonic() + self._supervisor.settings.release_seconds
            self._runner.say(StopPlease())

    def _autopsy(self) -> Ending:
        """The runner ended without a last word."""
        self._check()
        if self._release_by is not None:
            return HandedBack()
        return Crashed(JobCrashed(_cause_of_death(self._runner)).problem(), self._left)

    def _last_prints(self) -> None:
        for printed in self._ear.last_prints():
            self._teller.log.feed(printed)
        self._ear.close()
        self._teller.close()


def _watch(claim: Claim, runner: RunnerProcess, *, most_bytes: int) -> Watch:
    asked_bytes = claim.spec.limits.max_memory_bytes or most_bytes
    return Watch(seconds=claim.seconds_left, memory_bytes=min(asked_bytes, most_bytes), family=runner.family)


def _cause_of_death(runner: RunnerProcess) -> str:
    runner.kill_all()
    code = runner.exit_code or 0
    if code >= 0:
        return f"The process that ran the job ended with exit code {code} and without a result."
    if -code == signal.SIGKILL:
        return "The process that ran the job was ended by SIGKILL, as happens where the machine is out of memory."
    names = {one.value: one.name for one in signal.Signals}
    return f"The process that ran the job was ended by {names.get(-code, f'signal {-code}')}."
