"""Whether the service lives and can work."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from contract.failures import Unavailable
from contract.value import Value
from service.house import InHouse
from service.routes.responses import problems

router = APIRouter(tags=["health"])


class Alive(Value):
    """The process answers."""

    status: str = "alive"


class Readiness(Value):
    """What the service stands on; without the broker jobs are still taken."""

    status: str = "ready"
    database: bool
    blobs: bool
    broker: bool


@router.get("/healthz")
def healthz() -> Alive:
    """Alive."""
    return Alive()


@router.get("/readyz", responses=problems(Unavailable))
def readyz(house: InHouse) -> Readiness:
    """Ready: the database and the blob store answer."""
    house.database.ping()
    house.blobs.ping()
    return Readiness(database=True, blobs=True, broker=house.bell.works())


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(house: InHouse) -> Response:
    """For Prometheus."""
    return Response(house.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
