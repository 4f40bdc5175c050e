"""What every folder of tests may ask for: a real database of each kind, a real Redis."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from xdist.scheduler import LoadScopeScheduling

from storage.database import Database, migrate, open_database
from tests.servers import PostgreSQL, Redis, postgresql_package


def pytest_configure() -> None:
    """Collect garbage rarely: small networks are traced here by the thousand, whose graphs are objects by the million.

    A worker's runner does not, for one large network that is garbage is more memory than it may have.
    """
    gc.set_threshold(50_000, 20, 50)


#: Folders whose tests start servers, workers and jobs.
_CROWDS = ("tests/acceptance/", "tests/faults/")


class _ByFile(LoadScopeScheduling):
    """Where tests run side by side, those of a file stay together, for they share what is dear to make.

    Those that start many processes are one after the other too: two of them at a time would stand in each other's way.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "crowds" if nodeid.startswith(_CROWDS) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByFile:
    """How tests are given to those who run them."""
    return _ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that nobody waits for it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_CROWDS))


@pytest.fixture(scope="session")
def postgresql_wheel() -> Path:
    """Where PostgreSQL is; tests that ask for it are skipped where no wheel brings one, but not in CI."""
    package = postgresql_package()
    if package is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have PostgreSQL")
        pytest.skip("no wheel brings a PostgreSQL for this machine")
    return package


@pytest.fixture(scope="session")
def postgresql(postgresql_wheel: Path) -> Iterator[PostgreSQL]:
    """A private PostgreSQL."""
    with PostgreSQL(postgresql_wheel) as server:
        server.execute("CREATE DATABASE migrated")
        migrate(server.url("migrated"))
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the newest schema, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "modelpress.sqlite3"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A fresh SQLite database with the newest schema."""
    file = tmp_path / "modelpress.sqlite3"
    shutil.copy(migrated_sqlite, file)
    return f"sqlite:///{file}"


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """A fresh PostgreSQL database with the newest schema."""
    name = f"test_{uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield postgresql.url(name)
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database with the newest schema, once on each of the two."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, opened."""
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A private Redis on a unix socket."""
    with Redis() as server:
        yield server
