"""Runs Alembic over the connection of `migrate`, or over the configured database from the command line."""

from alembic import context
from sqlalchemy import Connection, create_engine

from contract.settings import Settings
from storage.schema import metadata


def _run(connection: Connection) -> None:
    # SQLite alters a table by making it anew.
    batch = connection.dialect.name == "sqlite"
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, render_as_batch=batch)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with create_engine(Settings().database).begin() as own:
        _run(own)
