"""The composition root of the HTTP side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.routing import APIRoute

from contract.settings import Settings
from service import errors, openapi
from service.bell import Bell
from service.bodies import Bodies
from service.house import House
from service.keeper import Keeper
from service.metrics import Metrics
from service.middleware import Envelope, Keys
from service.routes import artifacts, datasets, discovery, docs, events, health, jobs, models
from service.version import VERSION
from service.watcher import Watcher
from service.workforce import Workforce
from storage.blobs import open_blobs
from storage.catalogue import Datasets, Models
from storage.database import migrate, open_database
from storage.events import Events
from storage.idempotency import Idempotency
from storage.jobs import Jobs
from storage.logs import Logs
from storage.outbox import Outbox
from storage.terms import Terms
from storage.upkeep import Upkeep
from storage.workers import Workers


def build_house(settings: Settings) -> House:
    """Open everything that the routes work with."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(settings.database)
    database, terms = open_database(settings.database), Terms.of(settings)
    spool = settings.data_dir / "spool"
    blobs = open_blobs(settings.blobs, database, spool=spool, min_free_bytes=settings.min_free_bytes)
    jobs, happenings, outbox = Jobs(database, terms), Events(database), Outbox(database)
    workers, idempotency, bell = Workers(database, terms), Idempotency(database), Bell(settings.broker)
    workforce = Workforce(workers)
    return House(
        settings=settings,
        database=database,
        blobs=blobs,
        models=Models(database),
        datasets=Datasets(database),
        jobs=jobs,
        events=happenings,
        logs=Logs(database),
        idempotency=idempotency,
        workforce=workforce,
        watcher=Watcher(happenings),
        bell=bell,
        keeper=Keeper(
            outbox=outbox,
            bell=bell,
            upkeep=Upkeep(database, terms),
            blobs=blobs,
            idempotency=idempotency,
            workers=workers,
            every_seconds=settings.keeper_seconds,
        ),
        metrics=Metrics(jobs=jobs, outbox=outbox, workers_alive=lambda: len(workforce.live())),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    house: House = app.state.house
    house.keeper.start()
    watching = asyncio.create_task(house.watcher.run())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(house.keeper.stop)
        house.database.close()


def create_app(settings: Settings) -> FastAPI:
    """The application over these settings; its database is migrated, its keeper starts with it."""
    app = described_app()
    house = build_house(settings)
    app.state.house = house
    app.router.lifespan_context = _lifespan
    # The last one added is the first to see a request.
    app.add_middleware(Bodies, idle_seconds=settings.upload_idle_seconds)
    if settings.keys:
        app.add_middleware(Keys, keys=settings.keys)
    app.add_middleware(Envelope, metrics=house.metrics)
    return app


def described_app() -> FastAPI:
    """The application with its routes and nothing behind them: enough to describe it."""
    app = FastAPI(
        title="modelpress",
        version=VERSION,
        summary="POST a neural network, get back one that is smaller, faster and proven to be.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    for part in (models, datasets, jobs, events, artifacts, discovery, health, docs):
        app.include_router(part.router)
    errors.install(app)
    openapi.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
