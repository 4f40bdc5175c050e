"""Lists, as the API answers them."""

from typing import Generic, TypeVar

from contract.dataset import Dataset
from contract.job import Event, Job
from contract.model import Model
from contract.value import Value

T = TypeVar("T")


class _List(Value, Generic[T]):
    """One page of resources, newest first."""

    data: tuple[T, ...]
    has_more: bool
    #: To be sent as `after` for the next page.
    next_cursor: str | None


class ModelList(_List[Model]):
    """A page of models."""


class DatasetList(_List[Dataset]):
    """A page of datasets."""


class JobList(_List[Job]):
    """A page of jobs."""


class EventList(Value):
    """Events of a job, oldest first."""

    data: tuple[Event, ...]
    #: To be sent as `after` for what comes next.
    next: int
