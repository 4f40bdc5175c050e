"""What the tests of storage stand on: every part over one database, and a way to let time pass."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Text, type_coerce, update

from contract.dataset import Dataset, DatasetCreation
from contract.job import Job, JobState, Progress
from contract.model import Architecture, Model, ModelCreation, Preprocessing
from contract.report import Environment, Measurement, Ratios, Report, StepReport
from contract.spec import JobSpec
from contract.worker import WorkerCard
from storage.blobs import Blobs
from storage.catalogue import Datasets, Models
from storage.checkpoints import Checkpoints
from storage.claims import Claims
from storage.columns import Instant
from storage.database import Database
from storage.events import Events
from storage.idempotency import Idempotency
from storage.jobs import Jobs
from storage.logs import Logs
from storage.outbox import Outbox
from storage.schema import jobs, metadata
from storage.shelves import Shelf
from storage.terms import Terms
from storage.upkeep import Upkeep
from storage.values import Blob, Claim, NewJob
from storage.workers import Workers

TENANT = "ours"
TERMS = Terms(lease_seconds=60, retry_backoff_seconds=5, max_attempts=3, ring_again_seconds=60, live_seconds=30)

PREPROCESSING = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
MEASUREMENT = Measurement(parameters=10, nonzero_parameters=10, macs=100, size_bytes=40)
REPORT = Report(
    baseline=MEASUREMENT,
    compressed=MEASUREMENT,
    ratio=Ratios(size_bytes=1, parameters=1, macs=1),
    environment=Environment(
        instruction_set="avx2", processor="cpu", cores=2, threads=1, device="cpu", versions={"torch": "2.13.0"}
    ),
)
STEP_REPORT = StepReport(measurement=MEASUREMENT, seconds=1.5)


def spec(**changes: Any) -> JobSpec:
    """A job that needs nothing uploaded, with one step."""
    plain = {
        "model": {"architecture": {"name": "resnet18"}, "weights": "none"},
        "steps": [{"method": "prune_weights", "amount": 0.5}],
    }
    return JobSpec.model_validate(plain | changes)


def card(worker_id: str = "worker-1", **changes: Any) -> WorkerCard:
    """A worker that can do what a plain job needs."""
    plain = {
        "id": worker_id,
        "host": "here",
        "version": "1.0",
        "slots": 1,
        "cores": 2,
        "memory_bytes": 2**30,
        "instruction_set": "avx2",
        "devices": ["cpu"],
        "runtimes": {"onnxruntime": "1.31"},
        "outputs": ["safetensors", "onnx"],
    }
    return WorkerCard.model_validate(plain | changes)


@dataclass(frozen=True)
class House:
    """Every part of storage over one database."""

    database: Database
    shelf: Shelf
    terms: Terms = TERMS

    @property
    def blobs(self) -> Blobs:
        """Bytes."""
        return Blobs(self.database, self.shelf)

    @property
    def jobs(self) -> Jobs:
        """The clients' side."""
        return Jobs(self.database, self.terms)

    @property
    def claims(self) -> Claims:
        """The workers' side."""
        return Claims(self.database, self.terms)

    @property
    def upkeep(self) -> Upkeep:
        """The keeper's side."""
        return Upkeep(self.database, self.terms)

    @property
    def events(self) -> Events:
        """What is told."""
        return Events(self.database)

    @property
    def logs(self) -> Logs:
        """What runners write."""
        return Logs(self.database)

    @property
    def checkpoints(self) -> Checkpoints:
        """Where attempts left off."""
        return Checkpoints(self.database)

    @property
    def outbox(self) -> Outbox:
        """What must be sent."""
        return Outbox(self.database)

    @property
    def idempotency(self) -> Idempotency:
        """What was answered."""
        return Idempotency(self.database)

    @property
    def workers(self) -> Workers:
        """Who is there."""
        return Workers(self.database, self.terms)

    @property
    def models(self) -> Models:
        """Models."""
        return Models(self.database)

    @property
    def datasets(self) -> Datasets:
        """Datasets."""
        return Datasets(self.database)

    def submit(self, **changes: Any) -> Job:
        """A plain job, with changes to its spec."""
        return self.jobs.add(NewJob(tenant=TENANT, spec=spec(**changes)))

    def accept_as_was(self, job: Job, **changes: Any) -> None:
        """Let the job's spec have been accepted under other rules than today's."""
        text = json.dumps(job.spec.model_dump(mode="json") | changes)
        with self.database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(spec=type_coerce(text, Text)))

    def claim(self, **changes: Any) -> Claim:
        """The next job, which must be there."""
        claim = self.claims.claim(card(**changes))
        assert claim is not None
        return claim

    def running(self, **changes: Any) -> Claim:
        """A plain job that runs."""
        job = self.submit(**changes)
        claim = self.claim()
        assert claim.job_id == job.id
        return claim

    def job(self, job: Job | Claim) -> Job:
        """The job as it stands."""
        return self.jobs.get(TENANT, job.id if isinstance(job, Job) else job.job_id)

    def told(self, job: Job | Claim) -> list[str]:
        """The kinds of the job's events."""
        events = self.events.after(TENANT, job.id if isinstance(job, Job) else job.job_id)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        return [event.kind.value for event in events]

    def keep(self, content: bytes, tenant: str = TENANT) -> Blob:
        """Bytes in the store."""
        with self.blobs.writer(tenant) as writer:
            writer.write(content)
            return writer.commit()

    def model(self, content: bytes | None = b"weights") -> Model:
        """A model, ready if there is content."""
        creation = ModelCreation(architecture=Architecture(name="resnet18"))
        model = self.models.add(TENANT, creation, preprocessing=PREPROCESSING)
        return model if content is None else self.models.set_content(TENANT, model.id, self.keep(content))

    def dataset(self, content: bytes | None = b"images") -> Dataset:
        """A dataset, ready if there is content."""
        dataset = self.datasets.add(TENANT, DatasetCreation())
        return dataset if content is None else self.datasets.set_content(TENANT, dataset.id, self.keep(content))

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        pass_time(self.database, seconds)


def pass_time(database: Database, seconds: float) -> None:
    """Let time pass, by setting every instant that is written back."""
    with database.write() as connection:
        for table in metadata.tables.values():
            instants = [column for column in table.columns if isinstance(column.type, Instant)]
            if instants:
                earlier = {c.name: type_coerce(c, BigInteger) - round(seconds * 1_000_000) for c in instants}
                connection.execute(update(table).values(**earlier))


def progress(fraction: float, phase: str = "epoch 1 of 3") -> Progress:
    """How far a job is."""
    return Progress(fraction=fraction, step_index=0, step_count=1, phase=phase, updated_at="2026-01-01T00:00:00Z")


DONE = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)
