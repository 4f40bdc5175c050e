"""Jobs, as the workers see them: everything stands under the fence of a claim."""

from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from contract.artifact import ArtifactFile
from contract.failures import JobCrashed
from contract.job import EventKind, JobState, Progress, StateReason, StepState
from contract.report import StepReport
from contract.worker import WorkerCard
from storage.claiming import take
from storage.columns import now, seconds_from_now
from storage.database import Database, clock
from storage.identity import Kind, new_id
from storage.progress import NO_PROGRESS, keep_progress, tell_progress
from storage.schema import artifacts, job_steps, jobs
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
        """Renew the lease, and tell the progress that was kept but not told."""
        lease = update(jobs).where(held(claim)).values(lease_until=seconds_from_now(self._terms.lease_seconds))
        with self._database.write() as connection:
            row = connection.execute(lease.returning(jobs.c.cancel_requested_at, jobs.c.progress_told)).one_or_none()
            if row is None:
                return Beat(cancel_requested=False, lost=True)
            if not row.progress_told:
                tell_progress(connection, claim)
        return Beat(cancel_requested=row.cancel_requested_at is not None, lost=False)

    def look(self, claim: Claim) -> Beat:
        """What a heartbeat would bring back, without renewing the lease: one cheap read."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs.c.cancel_requested_at).where(held(claim))).one_or_none()
        return Beat(cancel_requested=row is not None and row.cancel_requested_at is not None, lost=row is None)

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
            state = _finish(connection, claim, final)
            if state is not None and final.artifacts:
                connection.execute(insert(artifacts).values([_artifact(claim, file) for file in final.artifacts]))
        return state

    def release(self, claim: Claim) -> bool:
        """Hand the job back because the worker shuts down; the attempt is not counted."""
        again = self._terms.ring_again_seconds
        with self._database.write() as connection:
            return requeue(
                connection,
                and_(held(claim), not_canceled()),
                reason=StateReason.WORKER_SHUT_DOWN,
                ring_again_seconds=again,
                attempt=jobs.c.attempt - 1,
            ) or end(connection, held(claim), state=JobState.CANCELED)

    def put_back(self, claim: Claim) -> bool:
        """Queue the job again because its process crashed; the attempt is counted, and the next one waits a while.

        After the last attempt the job has failed.
        """
        uncanceled = and_(held(claim), not_canceled())
        with self._database.write() as connection:
            if claim.attempt >= self._terms.max_attempts:
                error = JobCrashed().problem()
                put = end(connection, uncanceled, state=JobState.FAILED, error=error)
            else:
                put = requeue(
                    connection,
                    uncanceled,
                    reason=StateReason.JOB_CRASHED,
                    ring_again_seconds=self._terms.ring_again_seconds,
                    delay_seconds=self._terms.backoff_after(claim.attempt),
                    **NO_PROGRESS,
                )
            return put or end(connection, held(claim), state=JobState.CANCELED)

    def _step(self, claim: Claim, index: int, *, kind: EventKind, **values: Any) -> bool:
        at = and_(job_steps.c.job_id == claim.job_id, job_steps.c.position == index)
        with self._database.write() as connection:
            row = change(connection, held(claim))
            if row is None:
                return False
            connection.execute(update(job_steps).where(at).values(**values))
            tell(connection, row, kind, {"step_index": index, "method": claim.spec.steps[index].method})
        return True


def _finish(connection: Connection, claim: Claim, final: JobEnd) -> JobState | None:
    figures = _figures(final)
    done = {"progress": _done(connection, claim)} if final.state is JobState.SUCCEEDED else {}
    uncanceled = and_(held(claim), not_canceled())
    if end(connection, uncanceled, state=final.state, error=final.error, **figures, **done):
        return final.state
    # The flag is never taken back: what is still held here was canceled.
    return JobState.CANCELED if end(connection, held(claim), state=JobState.CANCELED, **figures) else None


def _figures(final: JobEnd) -> dict[str, Any]:
    result = final.result
    if result is None:
        return {}
    verdict = {"outcome": result.outcome, "constraints": result.constraints, "warnings": result.warnings}
    return {"report": result.report, **verdict}


def _done(connection: Connection, claim: Claim) -> Progress:
    steps = len(claim.spec.steps)
    return Progress(fraction=1, step_count=steps, phase="done", eta_seconds=0, updated_at=clock(connection))


def _artifact(claim: Claim, file: ArtifactFile) -> dict[str, Any]:
    return {
        "id": new_id(Kind.ARTIFACT),
        "job_id": claim.job_id,
        "tenant": claim.tenant,
        "filename": file.filename,
        "format": file.format.value,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "verified": file.verified,
        "fastest": file.fastest,
        "partial": file.partial,
        "created_at": now(),
    }
