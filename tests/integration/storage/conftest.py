"""Storage on each of the two databases."""

from pathlib import Path

import pytest

from storage.blobs import open_blobs
from storage.database import Database
from tests.integration.storage.house import House


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    """Every part of storage, with blobs in a folder."""
    return House(database, open_blobs((tmp_path / "blobs").as_uri(), database, spool=tmp_path / "spool"))
