"""Storage on each of the two databases."""

from pathlib import Path

import pytest

from storage.database import Database
from storage.shelves import Folder
from tests.integration.storage.house import House


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    """Every part of storage, with blobs in a folder."""
    return House(database, Folder(tmp_path / "blobs"))
