"""The tables. `migrations/` makes them; a test holds the two equal."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

from contract.failures import Problem
from contract.job import Progress, Verdict
from contract.model import Architecture, ClassNames, Preprocessing
from contract.report import Notice, Report, StepReport, Verification
from contract.spec import JobSpec
from contract.value import Json, Metadata
from contract.worker import WorkerCard
from storage.columns import Document, Instant
from storage.outdated import OutdatedSpec

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(30)
TENANT = String(64)
SHA256 = String(64)


def _of_job(**options: Any) -> Column[str]:
    return Column("job_id", ID, ForeignKey("jobs.id", ondelete="CASCADE"), **options)


def _content() -> ForeignKeyConstraint:
    # A blob that a row refers to cannot be deleted, and no row can refer to one that was: the database sees to it.
    return ForeignKeyConstraint(["tenant", "sha256"], ["blobs.tenant", "blobs.sha256"])


blobs = Table(
    "blobs",
    metadata,
    Column("tenant", TENANT, primary_key=True),
    Column("sha256", SHA256, primary_key=True),
    #: Where the bytes lie in the store; never used again once this row is gone.
    Column("key", String(384), nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    #: Whether the bytes have arrived.
    Column("present", Boolean, nullable=False),
    #: Until then someone may be about to refer to it.
    Column("pinned_until", Instant, nullable=False),
    #: Since when the keeper has found nothing that refers to it.
    Column("marked_at", Instant),
)

#: Keys in the store whose blob is gone and whose bytes are still to be deleted.
discarded = Table("discarded", metadata, Column("key", String(384), primary_key=True))

models = Table(
    "models",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant", TENANT, nullable=False),
    Column("name", String(256), nullable=False),
    Column("architecture", Document[Architecture](Architecture), nullable=False),
    Column("format", String(32), nullable=False),
    Column("preprocessing", Document[Preprocessing](Preprocessing), nullable=False),
    Column("classes", Document[tuple[str, ...]](ClassNames)),
    Column("metadata", Document[dict[str, str]](Metadata), nullable=False),
    Column("state", String(32), nullable=False),
    Column("size_bytes", BigInteger),
    Column("sha256", SHA256),
    Column("created_at", Instant, nullable=False),
    _content(),
    Index(None, "tenant", "id"),
    Index(None, "tenant", "sha256"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant", TENANT, nullable=False),
    Column("name", String(256), nullable=False),
    Column("format", String(32), nullable=False),
    Column("metadata", Document[dict[str, str]](Metadata), nullable=False),
    Column("state", String(32), nullable=False),
    Column("size_bytes", BigInteger),
    Column("sha256", SHA256),
    Column("created_at", Instant, nullable=False),
    _content(),
    Index(None, "tenant", "id"),
    Index(None, "tenant", "sha256"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant", TENANT, nullable=False),
    Column("state", String(16), nullable=False),
    #: Why it is queued again.
    Column("reason", String(32)),
    #: Who goes first: 0 before 1.
    Column("lane", Integer, nullable=False),
    #: The queue in which it is rung for.
    Column("device", String(16), nullable=False),
    Column("spec", Document[JobSpec](JobSpec, OutdatedSpec.of), nullable=False),
    Column("spec_hash", SHA256, nullable=False),
    Column("model_id", ID),
    Column("retry_of", ID),
    Column("created_at", Instant, nullable=False),
    #: Not claimed before: a lost job waits a while.
    Column("available_at", Instant, nullable=False),
    #: Until then it must have been started once.
    Column("queue_until", Instant, nullable=False),
    #: How long it may run, and how long it is kept after its end.
    Column("run_seconds", Integer, nullable=False),
    Column("keep_seconds", Integer),
    Column("started_at", Instant),
    #: Until then it must have ended, from its first start on.
    Column("deadline_at", Instant),
    Column("finished_at", Instant),
    Column("expires_at", Instant),
    Column("cancel_requested_at", Instant),
    #: Starts that count.
    Column("attempt", Integer, nullable=False),
    #: One up with every claim and every loss.
    Column("fence", BigInteger, nullable=False),
    Column("worker_id", String(128)),
    Column("lease_until", Instant),
    #: When it is rung for again if nobody claims it, and how often it was.
    Column("ring_at", Instant, nullable=False),
    Column("times_rung", Integer, nullable=False),
    Column("progress", Document[Progress](Progress)),
    #: When progress was last told as an event, and whether that was all there was to tell.
    Column("progress_told_at", Instant),
    Column("progress_told", Boolean, nullable=False),
    Column("report", Document[Report](Report)),
    Column("outcome", String(16)),
    Column("constraints", Document[tuple[Verdict, ...]](tuple[Verdict, ...]), nullable=False),
    Column("warnings", Document[tuple[Notice, ...]](tuple[Notice, ...]), nullable=False),
    Column("error", Document[Problem](Problem)),
    #: Number of its newest event.
    Column("last_event", Integer, nullable=False),
    Column("log_bytes", Integer, nullable=False),
    Index(None, "tenant", "id"),
    Index(
        "ix_jobs_queue",
        "lane",
        "created_at",
        "id",
        postgresql_where=text("state = 'queued'"),
        sqlite_where=text("state = 'queued'"),
    ),
    Index(
        "ix_jobs_leases",
        "lease_until",
        postgresql_where=text("state = 'running'"),
        sqlite_where=text("state = 'running'"),
    ),
    Index(None, "expires_at"),
)

job_steps = Table(
    "job_steps",
    metadata,
    _of_job(primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("method", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("report", Document[StepReport](StepReport)),
)

#: The models and datasets that a job reads, so that they stay while it is open.
job_inputs = Table(
    "job_inputs",
    metadata,
    _of_job(primary_key=True),
    Column("resource_id", ID, primary_key=True),
    Index(None, "resource_id"),
)

#: What a worker must offer to run a job.
job_needs = Table(
    "job_needs",
    metadata,
    _of_job(primary_key=True),
    Column("need", String(64), primary_key=True),
)

#: The metadata of a job, to be searched.
job_labels = Table(
    "job_labels",
    metadata,
    _of_job(primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), nullable=False),
    Index(None, "key", "value"),
)

events = Table(
    "events",
    metadata,
    _of_job(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("data", Document[dict[str, Json]](dict[str, Json]), nullable=False),
    Column("created_at", Instant, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", ID, primary_key=True),
    _of_job(nullable=False),
    Column("tenant", TENANT, nullable=False),
    Column("filename", String(255), nullable=False),
    Column("format", String(32), nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", SHA256, nullable=False),
    Column("verified", Document[Verification](Verification)),
    Column("fastest", Boolean, nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    _content(),
    Index(None, "job_id", "filename", unique=True),
    Index(None, "tenant", "sha256"),
)

#: The newest of each job only.
checkpoints = Table(
    "checkpoints",
    metadata,
    _of_job(primary_key=True),
    Column("tenant", TENANT, nullable=False),
    Column("sha256", SHA256, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("spec_hash", SHA256, nullable=False),
    Column("code_version", String(128), nullable=False),
    Column("position", Document[dict[str, Json]](dict[str, Json]), nullable=False),
    Column("created_at", Instant, nullable=False),
    _content(),
    Index(None, "tenant", "sha256"),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    _of_job(primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)

rings = Table(
    "rings",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("device", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", TENANT, primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("fingerprint", SHA256, nullable=False),
    #: Who may answer: whoever took the key last.
    Column("token", String(26), nullable=False),
    Column("begun_at", Instant, nullable=False, index=True),
    Column("status", Integer),
    Column("headers", Document[dict[str, str]](dict[str, str])),
    Column("body", LargeBinary),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("card", Document[WorkerCard](WorkerCard), nullable=False),
    Column("busy", Integer, nullable=False),
    Column("seen_at", Instant, nullable=False),
)
