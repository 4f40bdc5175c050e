"""Models and datasets, and whether their bytes are there."""

from typing import Any

from sqlalchemy import Row

from contract.dataset import Dataset, DatasetCreation
from contract.model import Model, ModelCreation, Preprocessing
from storage.database import Database
from storage.idempotency import Reply
from storage.identity import Kind
from storage.resources import Resources
from storage.schema import datasets, models


class Models(Resources[Model]):
    """The models of every tenant."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, kind=Kind.MODEL, table=models, read=model)

    def add(
        self, tenant: str, creation: ModelCreation, *, preprocessing: Preprocessing, reply: Reply[Model] | None = None
    ) -> Model:
        """A new model, awaiting its content; the reply is kept in the same transaction."""
        return self._add(
            tenant,
            reply=reply,
            name=creation.name,
            architecture=creation.architecture,
            format=creation.format.value,
            preprocessing=preprocessing,
            classes=creation.classes,
            metadata=creation.metadata,
        )


class Datasets(Resources[Dataset]):
    """The datasets of every tenant."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, kind=Kind.DATASET, table=datasets, read=dataset)

    def add(self, tenant: str, creation: DatasetCreation, *, reply: Reply[Dataset] | None = None) -> Dataset:
        """A new dataset, awaiting its content; the reply is kept in the same transaction."""
        described = {"name": creation.name, "format": creation.format.value, "metadata": creation.metadata}
        return self._add(tenant, reply=reply, **described)


def model(row: Row[Any]) -> Model:
    """A row of `models` as the contract has it."""
    return Model(
        id=row.id,
        name=row.name,
        architecture=row.architecture,
        format=row.format,
        preprocessing=row.preprocessing,
        classes=row.classes,
        metadata=row.metadata,
        state=row.state,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
    )


def dataset(row: Row[Any]) -> Dataset:
    """A row of `datasets` as the contract has it."""
    return Dataset(
        id=row.id,
        name=row.name,
        format=row.format,
        metadata=row.metadata,
        state=row.state,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
    )
