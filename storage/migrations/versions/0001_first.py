"""The first schema. Names of keys come from the metadata's naming convention."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _blobs()
    _models()
    _datasets()
    _jobs()
    _jobs_indexes()
    _job_parts()
    _events()
    _artifacts()
    _checkpoints()
    _log_chunks()
    _rings()
    _idempotency()
    _workers()


def downgrade() -> None:
    """Drop every table, those that refer to others first."""
    of_jobs = ("log_chunks", "checkpoints", "artifacts", "events", "job_labels", "job_needs", "job_inputs", "job_steps")
    for name in ("workers", "idempotency", "rings", *of_jobs, "jobs", "datasets", "models", "discarded", "blobs"):
        op.drop_table(name)


def _string(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _document(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _of_job() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE")


def _content() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant", "sha256"], ["blobs.tenant", "blobs.sha256"])


def _blobs() -> None:
    op.create_table(
        "blobs",
        _string("tenant", 64),
        _string("sha256", 64),
        _string("key", 384),
        _bytes("size_bytes"),
        _flag("present"),
        _instant("pinned_until"),
        _instant("marked_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant", "sha256"),
        sa.UniqueConstraint("key"),
    )
    op.create_table("discarded", _string("key", 384), sa.PrimaryKeyConstraint("key"))


def _models() -> None:
    op.create_table(
        "models",
        _string("id", 30),
        _string("tenant", 64),
        _string("name", 256),
        _document("architecture"),
        _string("format", 32),
        _document("preprocessing"),
        _document("classes", nullable=True),
        _document("metadata"),
        _string("state", 32),
        _bytes("size_bytes", nullable=True),
        _string("sha256", 64, nullable=True),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id"),
        _content(),
    )
    op.create_index("ix_models_tenant_id", "models", ["tenant", "id"])
    op.create_index("ix_models_tenant_sha256", "models", ["tenant", "sha256"])


def _datasets() -> None:
    op.create_table(
        "datasets",
        _string("id", 30),
        _string("tenant", 64),
        _string("name", 256),
        _string("format", 32),
        _document("metadata"),
        _string("state", 32),
        _bytes("size_bytes", nullable=True),
        _string("sha256", 64, nullable=True),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id"),
        _content(),
    )
    op.create_index("ix_datasets_tenant_id", "datasets", ["tenant", "id"])
    op.create_index("ix_datasets_tenant_sha256", "datasets", ["tenant", "sha256"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        _string("id", 30),
        _string("tenant", 64),
        _string("state", 16),
        _string("reason", 32, nullable=True),
        _number("lane"),
        _string("device", 16),
        _document("spec"),
        _string("spec_hash", 64),
        _string("model_id", 30, nullable=True),
        _string("retry_of", 30, nullable=True),
        *(_instant(name) for name in ("created_at", "available_at", "queue_until")),
        _number("run_seconds"),
        _number("keep_seconds", nullable=True),
        *(_instant(name, nullable=True) for name in ("started_at", "deadline_at", "finished_at", "expires_at")),
        _instant("cancel_requested_at", nullable=True),
        _number("attempt"),
        _bytes("fence"),
        _string("worker_id", 128, nullable=True),
        _instant("lease_until", nullable=True),
        _instant("ring_at"),
        _number("times_rung"),
        _document("progress", nullable=True),
        _instant("progress_told_at", nullable=True),
        _flag("progress_told"),
        _document("report", nullable=True),
        _string("outcome", 16, nullable=True),
        _document("constraints"),
        _document("warnings"),
        _document("error", nullable=True),
        _number("last_event"),
        _number("log_bytes"),
        sa.PrimaryKeyConstraint("id"),
    )


def _jobs_indexes() -> None:
    queued, running = sa.text("state = 'queued'"), sa.text("state = 'running'")
    op.create_index("ix_jobs_tenant_id", "jobs", ["tenant", "id"])
    op.create_index("ix_jobs_expires_at", "jobs", ["expires_at"])
    op.create_index("ix_jobs_queue", "jobs", ["lane", "created_at", "id"], postgresql_where=queued, sqlite_where=queued)
    op.create_index("ix_jobs_leases", "jobs", ["lease_until"], postgresql_where=running, sqlite_where=running)


def _job_parts() -> None:
    op.create_table(
        "job_steps",
        _string("job_id", 30),
        _number("position"),
        _string("method", 64),
        _string("state", 16),
        _instant("started_at", nullable=True),
        _instant("finished_at", nullable=True),
        _document("report", nullable=True),
        sa.PrimaryKeyConstraint("job_id", "position"),
        _of_job(),
    )
    for name, column in (("job_inputs", _string("resource_id", 30)), ("job_needs", _string("need", 64))):
        key = sa.PrimaryKeyConstraint("job_id", column.name)
        op.create_table(name, _string("job_id", 30), column, key, _of_job())
    op.create_index("ix_job_inputs_resource_id", "job_inputs", ["resource_id"])
    key = sa.PrimaryKeyConstraint("job_id", "key")
    op.create_table("job_labels", _string("job_id", 30), _string("key", 64), _string("value", 512), key, _of_job())
    op.create_index("ix_job_labels_key_value", "job_labels", ["key", "value"])


def _events() -> None:
    op.create_table(
        "events",
        _string("job_id", 30),
        _number("number"),
        _string("kind", 32),
        _number("attempt"),
        _document("data"),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("job_id", "number"),
        _of_job(),
    )


def _artifacts() -> None:
    op.create_table(
        "artifacts",
        _string("id", 30),
        _string("job_id", 30),
        _string("tenant", 64),
        _string("filename", 255),
        _string("format", 32),
        _string("media_type", 128),
        _bytes("size_bytes"),
        _string("sha256", 64),
        _document("verified", nullable=True),
        _flag("fastest"),
        _flag("partial"),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id"),
        _of_job(),
        _content(),
    )
    op.create_index("ix_artifacts_job_id_filename", "artifacts", ["job_id", "filename"], unique=True)
    op.create_index("ix_artifacts_tenant_sha256", "artifacts", ["tenant", "sha256"])


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        _string("job_id", 30),
        _string("tenant", 64),
        _string("sha256", 64),
        _bytes("size_bytes"),
        _string("spec_hash", 64),
        _string("code_version", 128),
        _document("position"),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("job_id"),
        _of_job(),
        _content(),
    )
    op.create_index("ix_checkpoints_tenant_sha256", "checkpoints", ["tenant", "sha256"])


def _log_chunks() -> None:
    op.create_table(
        "log_chunks",
        _string("job_id", 30),
        _number("start"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "start"),
        _of_job(),
    )


def _rings() -> None:
    op.create_table(
        "rings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        _string("device", 16),
        _number("tries"),
        _instant("due_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_rings_due_at", "rings", ["due_at"])


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        _string("tenant", 64),
        _string("key", 256),
        _string("fingerprint", 64),
        _string("token", 26),
        _instant("begun_at"),
        _number("status", nullable=True),
        _document("headers", nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "key"),
    )
    op.create_index("ix_idempotency_begun_at", "idempotency", ["begun_at"])


def _workers() -> None:
    op.create_table(
        "workers",
        _string("id", 128),
        _document("card"),
        _number("busy"),
        _instant("seen_at"),
        sa.PrimaryKeyConstraint("id"),
    )
