"""Whatever clients, workers and keepers do, in any order: the promises hold."""

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from contract.artifact import ArtifactFile, ArtifactFormat
from contract.failures import InvalidState
from contract.job import MAY_FOLLOW, EventKind, Job, JobState
from storage.database import open_database
from storage.idempotency import Reply
from storage.shelves import Folder
from storage.values import Answer, Claim, JobEnd, NewJob, Ticket
from tests.integration.storage.house import TENANT, TERMS, House, card, progress, spec

STATE_AFTER = {
    EventKind.CREATED: JobState.QUEUED,
    EventKind.STARTED: JobState.RUNNING,
    EventKind.REQUEUED: JobState.QUEUED,
    EventKind.SUCCEEDED: JobState.SUCCEEDED,
    EventKind.FAILED: JobState.FAILED,
    EventKind.CANCELED: JobState.CANCELED,
}


class LifeOfJobs(RuleBasedStateMachine):
    """Rules are what anybody may do; invariants are what must then hold."""

    template: Path
    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mp-"))
        shutil.copy(self.template, self.folder / "db.sqlite3")
        self.database = open_database(f"sqlite:///{self.folder}/db.sqlite3")
        self.house = House(self.database, Folder(self.folder / "blobs"))
        blob = self.house.keep(b"onnx")
        self.file = ArtifactFile(
            filename="model.onnx",
            format=ArtifactFormat.ONNX,
            media_type="application/octet-stream",
            size_bytes=blob.size_bytes,
            sha256=blob.sha256,
        )
        self.keys = 0
        #: Every job as it was when it was first seen ended.
        self.ended: dict[str, Job] = {}
        #: The newest claim of each job, and who has published.
        self.newest: dict[str, Claim] = {}
        self.published: dict[str, int] = {}

    def teardown(self) -> None:
        """Leave nothing."""
        self.database.close()
        shutil.rmtree(self.folder)

    @rule(target=jobs, priority=st.sampled_from(["low", "normal", "high"]), seconds=st.sampled_from([60, 86_400]))
    def submit(self, priority: str, seconds: int) -> str:
        """A client asks for a job, and sends the request twice."""
        self.keys += 1
        ticket = self.house.idempotency.begin(TENANT, str(self.keys), fingerprint="a" * 64)
        assert isinstance(ticket, Ticket)
        limits = {"max_queue_seconds": seconds, "max_run_seconds": 3600}
        new = NewJob(tenant=TENANT, spec=spec(priority=priority, limits=limits))
        reply = Reply[Job](ticket, lambda job: Answer(status=202, headers={}, body=job.id.encode()))
        job = self.house.jobs.add(new, reply=reply)
        again = self.house.idempotency.begin(TENANT, str(self.keys), fingerprint="a" * 64)
        assert isinstance(again, Answer)
        assert again.body == job.id.encode()
        return job.id

    @rule(target=claims)
    def ring(self) -> Claim | None:
        """A worker hears a ring."""
        claim = self.house.claims.claim(card())
        if claim is not None:
            before = self.newest.get(claim.job_id)
            assert before is None or claim.fence > before.fence
            self.newest[claim.job_id] = claim
        return claim

    @rule(claim=claims, seconds=st.sampled_from([1, 30, 61]))
    def work(self, claim: Claim | None, seconds: int) -> None:
        """A worker, perhaps after a pause, says how far it is."""
        self.house.pass_time(seconds)
        if claim is not None:
            told = self.house.claims.report_progress(claim, progress(0.5))
            assert told is not self.house.claims.heartbeat(claim).lost
            assert not told or self.newest[claim.job_id] == claim

    @rule(claim=claims, fractions=st.lists(st.sampled_from([0.2, 0.7]), min_size=1, max_size=2))
    def say(self, claim: Claim | None, fractions: list[float]) -> None:
        """A worker says how far it is, perhaps twice at once, and its heart beats later or never."""
        if claim is None:
            return
        for fraction in fractions:
            kept = self.house.claims.report_progress(claim, progress(fraction))
            assert not kept or self.newest[claim.job_id] == claim

    @rule(claim=claims)
    def beat(self, claim: Claim | None) -> None:
        """The heart of a worker beats."""
        assert claim is None or self.house.claims.heartbeat(claim).lost or self.newest[claim.job_id] == claim

    @rule(claim=claims, state=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED]))
    def finish(self, claim: Claim | None, state: JobState) -> None:
        """A worker, perhaps one that was given up long ago, brings its result."""
        if claim is None:
            return
        ended = self.house.claims.finish(claim, JobEnd(state=state, artifacts=(self.file,)))  # type: ignore[arg-type]
        if ended is not None:
            assert self.newest[claim.job_id] == claim
            self.published[claim.job_id] = self.published.get(claim.job_id, 0) + 1

    @rule(claim=claims)
    def release(self, claim: Claim | None) -> None:
        """A worker shuts down."""
        assert claim is None or not self.house.claims.release(claim) or self.newest[claim.job_id] == claim

    @rule(claim=claims)
    def crash(self, claim: Claim | None) -> None:
        """A job's process dies."""
        assert claim is None or not self.house.claims.put_back(claim) or self.newest[claim.job_id] == claim

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        """A client no longer wants it."""
        try:
            assert self.house.jobs.request_cancel(TENANT, job_id).state is not JobState.QUEUED
        except InvalidState:
            assert self.house.jobs.get(TENANT, job_id).done

    @rule(target=jobs, job_id=jobs)
    def retry(self, job_id: str) -> str:
        """A client wants it once more."""
        if self.house.jobs.get(TENANT, job_id).done:
            return self.house.jobs.retry(TENANT, job_id).id
        return job_id

    @rule(seconds=st.sampled_from([0, 5, 61]))
    def keep_house(self, seconds: int) -> None:
        """Two keepers come."""
        self.house.pass_time(seconds)
        for _ in range(2):
            self.house.upkeep.reap()
            self.house.upkeep.fail_overdue()
            self.house.upkeep.sweep()

    @rule()
    def relay(self) -> None:
        """A relay loses every other ring."""
        rings = self.house.outbox.due()
        self.house.outbox.mark_sent(rings[::2])
        self.house.outbox.mark_failed(rings[1::2])

    @invariant()
    def every_job_keeps_the_promises(self) -> None:
        """What ended stays as it was, attempts are bounded, there is one result, and events have no gap."""
        for job in self.house.jobs.list(TENANT).items:
            assert job.attempt <= TERMS.max_attempts
            assert len(job.artifacts) == self.published.get(job.id, 0) <= 1
            self._ended_for_good(job)
            self._told_truly(job)

    def _ended_for_good(self, job: Job) -> None:
        if job.id in self.ended:
            # Time is made to pass by setting instants back: they are not compared.
            frozen = {"state", "error", "artifacts", "attempt", "progress", "report", "steps", "outcome"}
            assert _without_instants(job, frozen) == _without_instants(self.ended[job.id], frozen)
        elif job.done:
            self.ended[job.id] = job

    def _told_truly(self, job: Job) -> None:
        events = self.house.events.after(TENANT, job.id)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        states = [STATE_AFTER[event.kind] for event in events if event.kind in STATE_AFTER]
        assert states[0] is JobState.QUEUED
        assert states[-1] is job.state
        for before, after in pairwise(states):
            assert after in MAY_FOLLOW[before]

    @invariant()
    def only_the_newest_claim_holds(self) -> None:
        """A running job has one worker, and it is the last that claimed it."""
        for job_id, claim in self.newest.items():
            running = self.house.jobs.get(TENANT, job_id).state is JobState.RUNNING
            assert running is not self.house.claims.look(claim).lost


def _without_instants(job: Job, names: set[str]) -> object:
    dumped = job.model_dump(include=names)
    dumped["artifacts"] = [artifact["sha256"] for artifact in dumped["artifacts"]]
    dumped["steps"] = [(step["method"], step["state"]) for step in dumped["steps"]]
    return dumped


LifeOfJobs.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestLifeOfJobs(LifeOfJobs.TestCase):  # type: ignore[misc, name-defined]
    """The machine, run by pytest."""

    @pytest.fixture(autouse=True)
    def _with_template(self, migrated_sqlite: Path) -> None:
        LifeOfJobs.template = migrated_sqlite
