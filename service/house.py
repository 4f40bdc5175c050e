"""What the routes work with, built once by the composition root."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from contract.settings import Settings
from service.bell import Bell
from service.keeper import Keeper
from service.metrics import Metrics
from service.watcher import Watcher
from service.workforce import Workforce
from storage.blobs import Blobs
from storage.catalogue import Datasets, Models
from storage.database import Database
from storage.events import Events
from storage.idempotency import Idempotency
from storage.jobs import Jobs
from storage.logs import Logs

#: Every key sees everything, until tenants come.
TENANT = "default"


@dataclass(frozen=True, kw_only=True)
class House:
    """The adapters of one process."""

    settings: Settings
    database: Database
    blobs: Blobs
    models: Models
    datasets: Datasets
    jobs: Jobs
    events: Events
    logs: Logs
    idempotency: Idempotency
    workforce: Workforce
    watcher: Watcher
    keeper: Keeper
    bell: Bell
    metrics: Metrics


def house_of(request: Request) -> House:
    """The house that serves this request."""
    house: House = request.app.state.house
    return house


InHouse = Annotated[House, Depends(house_of)]
