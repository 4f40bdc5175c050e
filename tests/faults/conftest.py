"""A bench for each test, with leases of seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings
from tests.faults.bench import Bench


def settings_at(folder: Path, **more: object) -> Settings:
    """Settings with short times; nothing is taken from the environment that these tests turn on."""
    chosen: dict[str, object] = {
        "data_dir": folder,
        "redis_url": None,
        "database_url": None,
        "blob_url": None,
        "lease_seconds": 2,
        "heartbeat_seconds": 0.3,
        "retry_backoff_seconds": 0,
        "release_seconds": 2,
        "warm_spare": False,
        "min_free_bytes": 0,
    }
    return Settings.model_validate(chosen | more)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench on SQLite and a local folder."""
    bench = Bench(settings_at(tmp_path))
    yield bench
    bench.close()
