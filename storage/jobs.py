"""Jobs, as those who ask for them see them."""

from contract.artifact import Artifact
from contract.job import Job
from storage.database import Database
from storage.idempotency import Reply
from storage.paging import Page, Window
from storage.terms import Terms
from storage.values import JobFilter, NewJob


class Jobs:
    """The jobs of every tenant."""

    def __init__(self, database: Database, terms: Terms = Terms()) -> None:
        self._database = database
        self._terms = terms

    def add(self, new: NewJob, *, reply: "Reply[Job] | None" = None) -> Job:
        """Write the job, its first event, its ring and the reply in one transaction.

        Raises `NotFound` and `NotReady`, with a pointer, for resources that the spec names.
        """
        raise NotImplementedError

    def get(self, tenant: str, job_id: str) -> Job:
        """Raises `NotFound`."""
        raise NotImplementedError

    def list(self, tenant: str, window: Window = Window(), *, only: JobFilter = JobFilter()) -> Page[Job]:
        """Newest first."""
        raise NotImplementedError

    def artifact(self, tenant: str, job_id: str, filename: str) -> Artifact:
        """One file of a job; raises `NotFound`."""
        raise NotImplementedError

    def request_cancel(self, tenant: str, job_id: str) -> Job:
        """End a queued job, flag a running one; raises `NotFound`, and `InvalidState` where it succeeded or failed."""
        raise NotImplementedError

    def retry(self, tenant: str, job_id: str, *, reply: "Reply[Job] | None" = None) -> Job:
        """A new job with the same spec; raises `NotFound`, and `InvalidState` for an open job."""
        raise NotImplementedError

    def delete(self, tenant: str, job_id: str) -> None:
        """Drop an ended job with all that is its own; raises `NotFound`, and `InUse` for an open job."""
        raise NotImplementedError
