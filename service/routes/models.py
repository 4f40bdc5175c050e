"""Models: an architecture by name first, then the weights."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from contract.failures import (
    BodyTooLarge,
    ContentGone,
    DigestMismatch,
    ExecutableModelNotAllowed,
    InUse,
    InvalidRequest,
    InvalidState,
    MalformedRequest,
    NotFound,
    PickleNotAllowed,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestTimeout,
    StorageFull,
    UnknownArchitecture,
    UnsupportedFormat,
)
from contract.model import Model, ModelCreation
from contract.pages import ModelList
from service.creation import add_model
from service.digests import announced_sha256
from service.downloads import download
from service.house import TENANT, InHouse
from service.idempotent import IsRepeatable, answer_once, answer_with
from service.routes.lists import InWindow
from service.routes.responses import file_response, problems
from service.uploads import receive
from service.views import model_view
from storage.values import Answer, Blob

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.post("", status_code=201, response_model=Model, responses=problems(InvalidRequest, UnknownArchitecture))
def create_model(creation: ModelCreation, house: InHouse, write: IsRepeatable) -> Response:
    """Say what a model is; its weights are sent to `links.content`."""
    return answer_once(house.idempotency, write, act=lambda reply: add_model(house, creation, reply), answer=_created)


def _created(model: Model) -> Answer:
    view = model_view(model)
    return answer_with(201, view, location=view.links["self"])


@router.get("", responses=problems(InvalidRequest))
def list_models(house: InHouse, window: InWindow) -> ModelList:
    """Every model, newest first."""
    page = house.models.list(TENANT, window)
    return ModelList(data=tuple(map(model_view, page.items)), has_more=page.has_more, next_cursor=page.next_cursor)


@router.get("/{model_id}", responses=problems(NotFound))
def get_model(model_id: str, house: InHouse) -> Model:
    """One model."""
    return model_view(house.models.get(TENANT, model_id))


@router.delete("/{model_id}", status_code=204, responses=problems(NotFound, InUse))
def delete_model(model_id: str, house: InHouse) -> None:
    """Delete a model that no open job needs."""
    house.models.delete(TENANT, model_id)


@router.put(
    "/{model_id}/content",
    responses=problems(
        NotFound, InvalidState, BodyTooLarge, MalformedRequest, DigestMismatch, StorageFull,
        PickleNotAllowed, ExecutableModelNotAllowed, RequestTimeout, UnsupportedFormat,
    ),
    openapi_extra={"requestBody": {"required": True, **file_response("The file.", "application/octet-stream")}},
)  # fmt: skip
async def put_model_content(model_id: str, request: Request, house: InHouse) -> Model:
    """Send the weights, checked against `Repr-Digest` or `Content-Digest` if sent; the same may come again."""
    announced = announced_sha256(request.headers)
    model = await run_in_threadpool(house.models.await_content, TENANT, model_id, sha256=announced)
    most = house.settings.max_upload_bytes
    blob = await receive(request, house.blobs, tenant=TENANT, format=model.format, most=most)
    house.metrics.uploaded(blob.size_bytes)
    return model_view(await run_in_threadpool(house.models.set_content, TENANT, model_id, blob))


@router.get(
    "/{model_id}/content",
    response_class=Response,
    responses=problems(
        NotFound,
        ContentGone,
        InvalidState,
        PreconditionFailed,
        RangeNotSatisfiable,
        success=file_response("The weights.", "application/octet-stream"),
    ),
)
def get_model_content(model_id: str, request: Request, house: InHouse) -> Response:
    """The weights as they were sent."""
    model = house.models.get(TENANT, model_id)
    if model.sha256 is None or model.size_bytes is None:
        raise InvalidState("It has no content yet.", state=model.state, allowed=("ready",))
    return download(
        request,
        house.blobs,
        Blob(model.sha256, model.size_bytes),
        filename=f"{model.id}.{model.format}",
        media_type="application/octet-stream",
    )
