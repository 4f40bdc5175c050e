"""Jobs, as the workers see them: everything stands under the fence of a claim."""

from contract.job import JobState, Progress
from contract.report import StepReport
from contract.worker import WorkerCard
from storage.database import Database
from storage.terms import Terms
from storage.values import Beat, Claim, JobEnd


class Claims:
    """How a worker takes a job, keeps it and gives it back.

    A method that takes a claim and returns a bool says whether the claim was still the newest; where it was not, nothing
    has happened.
    """

    def __init__(self, database: Database, terms: Terms = Terms()) -> None:
        self._database = database
        self._terms = terms

    def claim(self, card: WorkerCard) -> Claim | None:
        """Take the best queued job that this worker can run, or nothing."""
        raise NotImplementedError

    def heartbeat(self, claim: Claim) -> Beat:
        """Renew the lease."""
        raise NotImplementedError

    def report_progress(self, claim: Claim, progress: Progress) -> bool:
        """Keep how far it is; told as an event at most once a second."""
        raise NotImplementedError

    def step_started(self, claim: Claim, index: int) -> bool:
        """Say that a step runs."""
        raise NotImplementedError

    def step_succeeded(self, claim: Claim, index: int, *, report: StepReport) -> bool:
        """Say that a step is done, and what it did."""
        raise NotImplementedError

    def finish(self, claim: Claim, end: JobEnd) -> JobState | None:
        """End the job and publish its files, all in one transaction.

        Returns the state in which it ended (canceled where that was asked for, whatever the runner says), or null where
        the claim is no longer the newest.
        """
        raise NotImplementedError

    def release(self, claim: Claim) -> bool:
        """Hand the job back because the worker shuts down; the attempt is not counted."""
        raise NotImplementedError
