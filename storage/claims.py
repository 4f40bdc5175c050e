"""Jobs, as the workers see them: everything stands under the fence of a claim."""

from typing import Any

from sqlalchemy import and_, insert, select, update

from contract.artifact import ArtifactFile
from contract.job import EventKind, JobState, Progress, StateReason, StepState
from contract.report import StepReport
from contract.value import Json
from contract.worker import WorkerCard
from storage.claiming import take
from storage.columns import now, seconds_from_now
from storage.database import Database, clock
from storage.identity import Kind, new_id
from storage.schema import artifacts, job_steps, jobs
from storage.telling import keep_progress, tell_progress
from storage.terms import STANDARD_TERMS, Terms
from storage.transitions import change, end, held, not_canceled, requeue, tell
from storage.values import Beat, Claim, JobEnd


class Claims:
    """How a worker takes a job, keeps it and gives it back.

    A method that takes a claim and returns a bool says whether the claim was still the newest; where it was not,
    nothing has happened.
    """

    def __init__(self, database: Database, terms: Terms = STANDARD_TERMS) -> None:
        self._database = database
        self._terms = terms

    def claim(self, card: WorkerCard) -> Claim | None:
        """Take the best queued job that this worker can run, or nothing."""
        with self._database.write() as connection:
            return take(connection, card, lease_seconds=self._terms.lease_seconds)

    def heartbeat(self, claim: Claim) -> Beat:
        """Renew the lease, and tell what progress the last second's silence held back."""
        lease = update(jobs).where(held(claim)).values(lease_until=seconds_from_now(self._terms.lease_seconds))
        with self._database.write() as connection:
            row = connection.execute(lease.returning(jobs)).one_or_none()
            if row is None:
                return Beat(cancel_requested=False, lost=True)
            tell_progress(connection, row)
        return Beat(cancel_requested=row.cancel_requested_at is not None, lost=False)

    def look(self, claim: Claim) -> Beat:
        """What a heartbeat would bring back, without renewing the lease: one cheap read, asked twice a second."""
        raise NotImplementedError

    def report_progress(self, claim: Claim, progress: Progress) -> bool:
        """Keep how far it is; told as an event at most once a second."""
        with self._database.write() as connection:
            return keep_progress(connection, claim, progress)

    def step_started(self, claim: Claim, index: int) -> bool:
        """Say that a step runs."""
        values = {"state": StepState.RUNNING.value, "started_at": now(), "finished_at": None, "report": None}
        return self._step(claim, index, kind=EventKind.STEP_STARTED, **values)

    def step_succeeded(self, claim: Claim, index: int, *, report: StepReport) -> bool:
        """Say that a step is done, and what it did."""
        values = {"state": StepState.SUCCEEDED.value, "finished_at": now(), "report": report}
        return self._step(claim, index, kind=EventKind.STEP_SUCCEEDED, **values)

    def finish(self, claim: Claim, final: JobEnd) -> JobState | None:
        """End the job and publish its files, all in one transaction.

        Returns the state in which it ended (canceled where that was asked for, whatever the runner says), or null where
        the claim is no longer the newest.
        """
        with self._database.write() as connection:
            state = self._end(connection, claim, final)
            if state is not None and final.artifacts:
                rows = [_artifact(claim, file) for file in final.artifacts]
                connection.execute(insert(artifacts).values(created_at=now()), rows)
        return state

    def release(self, claim: Claim) -> bool:
        """Hand the job back because the worker shuts down; the attempt is not counted."""

    def requeue(self, claim: Claim) -> bool:
        """Queue the job again after its process crashed; the attempt is counted, and it backs off as after a loss."""
        raise NotImplementedError
