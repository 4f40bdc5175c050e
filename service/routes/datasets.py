"""Datasets: labelled images in one file."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from contract.dataset import Dataset, DatasetCreation, DatasetFormat
from contract.failures import (
    BodyTooLarge,
    ContentGone,
    DigestMismatch,
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
    UnsupportedFormat,
)
from contract.pages import DatasetList
from service.digests import announced_sha256
from service.downloads import download
from service.house import TENANT, InHouse
from service.idempotent import IsRepeatable, answer_once, answer_with
from service.routes.lists import InWindow
from service.routes.responses import file_response, problems
from service.uploads import receive
from service.views import dataset_view
from storage.values import Answer, Blob

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

_SUFFIX = {DatasetFormat.IMAGE_FOLDER_ZIP: "zip", DatasetFormat.NPZ: "npz"}


@router.post("", status_code=201, response_model=Dataset, responses=problems(InvalidRequest))
def create_dataset(creation: DatasetCreation, house: InHouse, write: IsRepeatable) -> Response:
    """Say what a dataset is; its file is sent to `links.content`."""
    return answer_once(
        house.idempotency,
        write,
        act=lambda reply: house.datasets.add(TENANT, creation, reply=reply),
        answer=_created,
    )


def _created(dataset: Dataset) -> Answer:
    view = dataset_view(dataset)
    return answer_with(201, view, location=view.links["self"])


@router.get("", responses=problems(InvalidRequest))
def list_datasets(house: InHouse, window: InWindow) -> DatasetList:
    """Every dataset, newest first."""
    page = house.datasets.list(TENANT, window)
    return DatasetList(data=tuple(map(dataset_view, page.items)), has_more=page.has_more, next_cursor=page.next_cursor)


@router.get("/{dataset_id}", responses=problems(NotFound))
def get_dataset(dataset_id: str, house: InHouse) -> Dataset:
    """One dataset."""
    return dataset_view(house.datasets.get(TENANT, dataset_id))


@router.delete("/{dataset_id}", status_code=204, responses=problems(NotFound, InUse))
def delete_dataset(dataset_id: str, house: InHouse) -> None:
    """Delete a dataset that no open job needs."""
    house.datasets.delete(TENANT, dataset_id)


@router.put(
    "/{dataset_id}/content",
    responses=problems(
        NotFound, InvalidState, BodyTooLarge, MalformedRequest, DigestMismatch, StorageFull,
        PickleNotAllowed, RequestTimeout, UnsupportedFormat,
    ),
    openapi_extra={"requestBody": {"required": True, **file_response("The file.", "application/octet-stream")}},
)  # fmt: skip
async def put_dataset_content(dataset_id: str, request: Request, house: InHouse) -> Dataset:
    """Send the file, checked against `Repr-Digest` or `Content-Digest` if sent; the same may come again."""
    announced = announced_sha256(request.headers)
    dataset = await run_in_threadpool(house.datasets.await_content, TENANT, dataset_id, sha256=announced)
    most = house.settings.max_upload_bytes
    blob = await receive(request, house.blobs, tenant=TENANT, format=dataset.format, most=most)
    house.metrics.uploaded(blob.size_bytes)
    return dataset_view(await run_in_threadpool(house.datasets.set_content, TENANT, dataset_id, blob))


@router.get(
    "/{dataset_id}/content",
    response_class=Response,
    responses=problems(
        NotFound,
        ContentGone,
        InvalidState,
        PreconditionFailed,
        RangeNotSatisfiable,
        success=file_response("The file.", "application/octet-stream"),
    ),
)
def get_dataset_content(dataset_id: str, request: Request, house: InHouse) -> Response:
    """The file as it was sent."""
    dataset = house.datasets.get(TENANT, dataset_id)
    if dataset.sha256 is None or dataset.size_bytes is None:
        raise InvalidState("It has no content yet.", state=dataset.state, allowed=("ready",))
    return download(
        request,
        house.blobs,
        Blob(dataset.sha256, dataset.size_bytes),
        filename=f"{dataset.id}.{_SUFFIX[dataset.format]}",
        media_type="application/octet-stream",
    )
