"""Models and datasets, and whether their bytes are there."""

from contract.dataset import Dataset, DatasetCreation
from contract.model import Model, ModelCreation, Preprocessing
from storage.database import Database
from storage.idempotency import Reply
from storage.paging import Page, Window
from storage.values import Blob


class Models:
    """The models of every tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, tenant: str, creation: ModelCreation, *, preprocessing: Preprocessing, reply: "Reply[Model] | None" = None
    ) -> Model:
        """A new model, awaiting its content."""
        raise NotImplementedError

    def get(self, tenant: str, model_id: str) -> Model:
        """Raises `NotFound`."""
        raise NotImplementedError

    def list(self, tenant: str, window: Window = Window()) -> Page[Model]:
        """Newest first."""
        raise NotImplementedError

    def set_content(self, tenant: str, model_id: str, blob: Blob) -> Model:
        """Give it its bytes, once; raises `NotFound`, and `InvalidState` where it has some."""
        raise NotImplementedError

    def await_content(self, tenant: str, model_id: str) -> Model:
        """The model, if it still awaits its content; raises `NotFound` and `InvalidState`."""
        raise NotImplementedError

    def delete(self, tenant: str, model_id: str) -> None:
        """Raises `NotFound`, and `InUse` where an open job needs it."""
        raise NotImplementedError


class Datasets:
    """The datasets of every tenant; the same as `Models`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tenant: str, creation: DatasetCreation, *, reply: "Reply[Dataset] | None" = None) -> Dataset:
        """A new dataset, awaiting its content."""
        raise NotImplementedError

    def get(self, tenant: str, dataset_id: str) -> Dataset:
        """Raises `NotFound`."""
        raise NotImplementedError

    def list(self, tenant: str, window: Window = Window()) -> Page[Dataset]:
        """Newest first."""
        raise NotImplementedError

    def set_content(self, tenant: str, dataset_id: str, blob: Blob) -> Dataset:
        """Give it its bytes, once; raises `NotFound`, and `InvalidState` where it has some."""
        raise NotImplementedError

    def await_content(self, tenant: str, dataset_id: str) -> Dataset:
        """The dataset, if it still awaits its content; raises `NotFound` and `InvalidState`."""
        raise NotImplementedError

    def delete(self, tenant: str, dataset_id: str) -> None:
        """Raises `NotFound`, and `InUse` where an open job needs it."""
        raise NotImplementedError
