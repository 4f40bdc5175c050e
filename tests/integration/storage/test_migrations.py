"""The schema grows by migrations, and ends where the code says."""

import subprocess
import sys

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from storage.database import Database, migrate
from storage.migrations import configuration
from storage.schema import metadata
from tests.servers import PostgreSQL


def test_the_migrated_schema_is_that_of_the_code(database: Database) -> None:
    # Given a migrated database, when it is compared with the tables of the code
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, metadata)

    # Then there is nothing to do
    assert differences == []


def test_migrating_again_changes_nothing(database_url: str) -> None:
    # Given a migrated database, when it is migrated once more, then it goes well
    migrate(database_url)


def test_every_migration_can_be_taken_back(database_url: str) -> None:
    # Given a migrated database
    engine = create_engine(database_url, poolclass=NullPool)

    # When all is taken back
    with engine.begin() as connection:
        command.downgrade(configuration(connection), "base")

    # Then no table of ours is left, and one can begin anew
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    migrate(database_url)
    assert set(metadata.tables) < set(inspect(engine).get_table_names())


def _migrate_in_processes(url: str, count: int) -> list[subprocess.CompletedProcess[str]]:
    code = f"from storage.database import migrate; migrate({url!r})"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(count)
    ]
    ends = [process.communicate() for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *end)
        for process, end in zip(processes, ends, strict=True)
    ]


def test_processes_that_start_at_once_take_turns_on_sqlite(tmp_path: object) -> None:
    # Given no database at all, when several processes migrate it at once
    ends = _migrate_in_processes(f"sqlite:///{tmp_path}/new/modelpress.sqlite3", 3)

    # Then all of them go well
    assert [end.stderr for end in ends if end.returncode] == []


def test_processes_that_start_at_once_take_turns_on_postgresql(postgresql: PostgreSQL) -> None:
    # Given an empty database, when several processes migrate it at once
    postgresql.execute("CREATE DATABASE empty")
    ends = _migrate_in_processes(postgresql.url("empty"), 3)
    postgresql.execute("DROP DATABASE empty")

    # Then all of them go well
    assert [end.stderr for end in ends if end.returncode] == []
