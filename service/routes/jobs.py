"""Jobs: posted, followed, cancelled, repeated, deleted."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from contract.failures import (
    BodyTooLarge,
    DeviceUnavailable,
    FormatUnavailable,
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    InUse,
    InvalidParams,
    InvalidRequest,
    InvalidSpec,
    InvalidState,
    MalformedRequest,
    MissingData,
    NotFound,
    NotReady,
    PickleNotAllowed,
    RequestTimeout,
    SpecOutdated,
    StorageFull,
    UnknownArchitecture,
    UnknownMethod,
    UnsupportedFormat,
    UnsupportedMediaType,
    WrongOrder,
)
from contract.job import Job, JobState
from contract.pages import JobList
from contract.spec import InlineJobSpec, JobOptions, JobSpec
from service.house import TENANT, House, InHouse
from service.idempotent import IsRepeatable, Key, Repeatable, answer_once, conclude_with, fingerprint_of
from service.multipart import read_parts, read_spec
from service.routes.lists import InWindow
from service.routes.responses import problems
from service.specs import read_json
from service.submission import accepted, enqueue, submit, submit_parts, validate, validate_parts
from service.views import job_view
from storage.values import JobFilter

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_METADATA = "metadata."
#: The longest that a client may wait for an answer, in seconds.
MAX_WAIT = 300

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobSpec"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "spec": {"$ref": "#/components/schemas/InlineJobSpec"},
                        **{
                            part: {"type": "string", "format": "binary"}
                            for part in ("model", "teacher", "train", "calibration", "evaluation")
                        },
                    },
                },
                "encoding": {"spec": {"contentType": "application/json"}},
            },
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=Job,
    openapi_extra=_BODY,
    responses=problems(
        MalformedRequest, NotFound, BodyTooLarge, UnsupportedMediaType, PickleNotAllowed, UnsupportedFormat,
        InvalidSpec, InvalidParams, UnknownMethod, UnknownArchitecture, MissingData, WrongOrder, NotReady,
        FormatUnavailable, DeviceUnavailable, IdempotencyKeyReused, IdempotencyKeyInFlight, RequestTimeout,
        StorageFull,
        success={"model": JobSpec | InlineJobSpec, "description": "With `validate_only`: the spec with every default."},
    ),
)  # fmt: skip
async def create_job(
    request: Request,
    house: InHouse,
    key: Key = None,
    validate_only: Annotated[bool, Query(description="Check the spec and store nothing.")] = False,
) -> Response:
    """Post a job: JSON over resources that are there, or multipart with the files in the same call (`spec` first)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        if validate_only:
            announced = await read_spec(request, house)
            return _resolved(await run_in_threadpool(validate_parts, house, announced))
        parts = await read_parts(request, house)
        write = Repeatable(key, fingerprint_of(request, *parts.fingerprint) if key else "")
        return await run_in_threadpool(submit_parts, house, parts, write)
    if kind not in ("", "application/json"):
        raise UnsupportedMediaType("A job is posted as application/json or multipart/form-data.")
    body = await request.body()
    if validate_only:
        return _resolved(await run_in_threadpool(validate, house, read_json(body)))
    write = Repeatable(key, fingerprint_of(request, body) if key else "")
    return await run_in_threadpool(_submit_json, house, body, write)


def _resolved(spec: JobOptions) -> Response:
    return Response(spec.model_dump_json(), media_type="application/json")


def _submit_json(house: House, body: bytes, write: Repeatable) -> Response:
    return submit(house, read_json(body), write)


@router.get("", responses=problems(InvalidRequest))
def list_jobs(
    request: Request,
    house: InHouse,
    window: InWindow,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    method: Annotated[str | None, Query(max_length=64, description="Only jobs with a step of this method.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Only jobs that compress this model.")] = None,
) -> JobList:
    """Every job, newest first; `metadata.KEY=VALUE` keeps those with this label."""
    labels = {k.removeprefix(_METADATA): v for k, v in request.query_params.items() if k.startswith(_METADATA)}
    only = JobFilter(state=state, method=method, model=model, metadata=labels)
    page = house.jobs.list(TENANT, window, only=only)
    return JobList(data=tuple(map(job_view, page.items)), has_more=page.has_more, next_cursor=page.next_cursor)


@router.get("/{job_id}", responses=problems(NotFound))
async def get_job(
    job_id: str,
    house: InHouse,
    response: Response,
    prefer: Annotated[
        str | None, Header(max_length=256, description="`wait=30` answers when the job ends, or after 30 s.")
    ] = None,
) -> Job:
    """One job; with `Prefer: wait=N` (RFC 7240) as soon as it ends."""
    job = await run_in_threadpool(house.jobs.get, TENANT, job_id)
    seconds = _wait_of(prefer)
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        job = await _wait(house, job, seconds)
    if not job.done:
        response.headers["Retry-After"] = "1"
    return job_view(job)


def _wait_of(prefer: str | None) -> int | None:
    for preference in (prefer or "").split(","):
        name, _, value = preference.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit() and len(value) < 7:
            return min(int(value), MAX_WAIT)
    return None


async def _wait(house: House, job: Job, seconds: int) -> Job:
    loop_end = house.watcher.now() + seconds
    past = 0
    with house.watcher.watching(job.id):
        while not job.done and not house.watcher.closed and (left := loop_end - house.watcher.now()) > 0:
            past = await house.watcher.wait(job.id, past=past, seconds=left)
            job = await run_in_threadpool(house.jobs.get, TENANT, job.id)
    return job


@router.post("/{job_id}/cancel", status_code=202, response_model=Job, responses=problems(NotFound, InvalidState))
def cancel_job(job_id: str, house: InHouse, write: IsRepeatable) -> Response:
    """Stop a job; saying so again does no harm."""

    def act() -> Job:
        return house.jobs.request_cancel(TENANT, job_id)

    return answer_once(house.idempotency, write, act=conclude_with(house.idempotency, act, accepted), answer=accepted)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=Job,
    responses=problems(NotFound, NotReady, InvalidState, SpecOutdated),
)
def retry_job(job_id: str, house: InHouse, write: IsRepeatable) -> Response:
    """A new job with the same spec, linked by `retry_of`."""
    return enqueue(house, write, lambda reply: house.jobs.retry(TENANT, job_id, reply=reply))


@router.delete("/{job_id}", status_code=204, responses=problems(NotFound, InUse))
def delete_job(job_id: str, house: InHouse) -> None:
    """Delete an ended job and the artifacts that no other job refers to."""
    house.jobs.delete(TENANT, job_id)


#: Shown in the API's description although no route takes it as a parameter.
DESCRIBED: tuple[Any, ...] = (JobSpec, InlineJobSpec)
