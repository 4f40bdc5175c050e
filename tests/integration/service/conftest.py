"""The API as a process of its own, on both databases; the part of the worker is played through storage."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from contract.settings import Settings
from storage.blobs import Blobs, open_blobs
from storage.claims import Claims
from storage.database import Database, open_database
from tests.deadline import until
from tests.servers import PostgreSQL


@dataclass(frozen=True)
class Api:
    """A running API, and the same storage that it stands on."""

    http: httpx.Client
    process: subprocess.Popen[bytes]
    database: Database
    blobs: Blobs
    claims: Claims
    settings: Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def start(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "service"],
            env={**os.environ, **settings.environment()},
            stdout=file,
            stderr=file,
        )


@contextmanager
def serving(folder: Path, **more: object) -> Iterator[Api]:
    """The API over a fresh database of SQLite unless another is named, its broker away."""
    chosen: dict[str, object] = {
        "port": free_port(),
        "data_dir": folder,
        "database_url": f"sqlite:///{folder / 'jobs.sqlite3'}",
        "redis_url": "redis://127.0.0.1:1/0",
        "max_upload_bytes": 4 * 1024**2,
        "keeper_seconds": 0.5,
    }
    settings = Settings.model_validate(chosen | more)
    process = start(settings, folder / "api.log")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as http:
            until(lambda: ready(http), seconds=30)
            database = open_database(settings.database)
            blobs = open_blobs(settings.blobs, database, spool=folder / "own-spool")
            yield Api(http, process, database, blobs, Claims(database), settings)
            database.close()
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API without keys, on each of the two databases."""
    folder = tmp_path_factory.mktemp("api")
    if request.param == "sqlite":
        with serving(folder) as api:
            yield api
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"api_{folder.name}".replace("-", "_")
    server.execute(f"CREATE DATABASE {name}")
    with serving(folder, database_url=server.url(name)) as api:
        yield api


@pytest.fixture
def http(api: Api) -> httpx.Client:
    """A client of the API."""
    return api.http
