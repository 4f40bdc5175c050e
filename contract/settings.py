"""Every setting of every process, from the environment; `.env.example` lists them."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


class Settings(BaseSettings):
    """The settings, with their defaults; unset addresses mean the embedded ones under the data folder."""

    model_config = SettingsConfigDict(env_prefix="MODELPRESS_", frozen=True, extra="ignore", populate_by_name=True)

    #: Address to listen on; any but loopback needs API keys.
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    #: Where the embedded database, broker and blobs live.
    data_dir: Path = Path("data")
    #: Where running jobs have their files; unset is a folder under data_dir.
    scratch_dir: Path | None = None
    #: Worker processes that `modelpress up` starts.
    workers: int = Field(default=1, ge=0, le=64)
    #: Jobs that one worker runs at a time.
    slots: int = Field(default=1, ge=1, le=64)
    #: Comma-separated keys; none leaves the service open.
    api_keys: SecretStr | None = None

    #: Broker; unset starts the embedded one.
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    #: SQLAlchemy URL of PostgreSQL or SQLite; unset is SQLite under data_dir.
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    #: Blob store, `s3://bucket/prefix` or `file:///path`; unset is a folder under data_dir.
    blob_url: str | None = Field(default=None, validation_alias="BLOB_URL")

    #: Largest upload, in bytes.
    max_upload_bytes: int = Field(default=64 * GIB, ge=1)
    #: A body of which no 64 KiB come in so long is given up, in seconds.
    upload_idle_seconds: float = Field(default=60, gt=0)
    #: Free space that uploads leave on the disk, in bytes.
    min_free_bytes: int = Field(default=256 * 1024**2, ge=0)

    #: A running job whose worker is silent for so long is given to another, in seconds.
    lease_seconds: float = Field(default=60, gt=0)
    #: How often a worker renews its lease, in seconds.
    heartbeat_seconds: float = Field(default=10, gt=0)
    #: How often the keeper looks for lost leases and unheard jobs, in seconds.
    keeper_seconds: float = Field(default=5, gt=0)
    #: A queued job that nobody claims is rung for again after so long, in seconds.
    ring_again_seconds: float = Field(default=60, gt=0)
    #: Wait before a lost job is tried again, in seconds; doubles with each attempt.
    retry_backoff_seconds: float = Field(default=5, ge=0)
    max_attempts: int = Field(default=3, ge=1, le=100)
    #: Time a runner gets to write its last checkpoint when its worker shuts down, in seconds.
    release_seconds: float = Field(default=20, gt=0)
    #: Memory of one job where its spec sets no limit, in bytes.
    max_job_memory_bytes: int = Field(default=16 * GIB, ge=1)
    #: Whether a worker keeps a process with torch loaded ready for the next job.
    warm_spare: bool = True

    @field_validator("redis_url", "database_url", "blob_url", "api_keys", "scratch_dir", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a process that is started with them."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {_variable(name): _spelled(value) for name, value in values.items()}

    @property
    def scratch(self) -> Path:
        """Where running jobs have their files."""
        return (self.scratch_dir or self.data_dir / "scratch").absolute()

    @property
    def keys(self) -> frozenset[str]:
        """The API keys, none where the service is open."""
        raw = self.api_keys.get_secret_value() if self.api_keys else ""
        return frozenset(key.strip() for key in raw.split(",") if key.strip())

    @property
    def broker(self) -> str:
        """The broker's URL for Celery."""
        return self.redis_url or f"redis+socket://{self.data_dir.absolute() / 'redis.sock'}"

    @property
    def database(self) -> str:
        """The database's URL for SQLAlchemy."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'modelpress.sqlite3'}"

    @property
    def blobs(self) -> str:
        """The blob store's URL."""
        return self.blob_url or (self.data_dir.absolute() / "blobs").as_uri()


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"MODELPRESS_{field.upper()}"


def _spelled(value: object) -> str:
    if value is None:
        return ""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
