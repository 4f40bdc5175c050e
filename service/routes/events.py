"""What happens to a job, as a list or as a stream of server-sent events (WHATWG HTML, 9.2)."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from contract.failures import NotFound
from contract.job import Event, Job
from contract.pages import EventList
from service.house import TENANT, House, InHouse
from service.routes.responses import file_response, problems

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

_STREAM = "text/event-stream"
_HEARTBEAT_SECONDS = 15.0
#: Numbers of events, and bytes of logs, stay below.
_LARGEST = 2**31 - 1


@router.get(
    "/events",
    response_model=EventList,
    responses=problems(NotFound, success={"content": file_response("", _STREAM)["content"]}),
)
async def get_events(
    job_id: str,
    house: InHouse,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", description="Where a stream goes on.")] = None,
    after: Annotated[int, Query(ge=0, le=_LARGEST, description="Only events past this number.")] = 0,
) -> Response:
    """Events past a number; with `Accept: text/event-stream` as they come, closed after the last one."""
    job = await run_in_threadpool(house.jobs.get, TENANT, job_id)
    if _STREAM in (accept or ""):
        past = _number(last_event_id, default=after)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(house, job, past), media_type=_STREAM, headers=headers)
    found = await run_in_threadpool(_after, house, job_id, after)
    page = EventList(data=found, next=found[-1].number if found else after)
    return Response(page.model_dump_json(), media_type="application/json")


def _number(last_event_id: str | None, *, default: int) -> int:
    # What is none of our numbers is no reason to refuse a browser that brings it again and again.
    if last_event_id is None or not last_event_id.isascii() or not last_event_id.isdigit():
        return default
    return min(int(last_event_id[:20]), _LARGEST)


def _after(house: House, job_id: str, number: int) -> tuple[Event, ...]:
    return house.events.after(TENANT, job_id, number=number)


async def _stream(house: House, job: Job, past: int) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    with house.watcher.watching(job.id):
        while True:
            try:
                found = await run_in_threadpool(_after, house, job.id, past)
            except NotFound:
                return
            for event in found:
                past = event.number
                yield f"id: {event.number}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
                if event.kind.is_last:
                    return
            if found:
                continue
            if job.done:
                return
            newest = await house.watcher.wait(job.id, past=past, seconds=_HEARTBEAT_SECONDS)
            if house.watcher.closed:
                return
            if newest <= past:
                yield ": still here\n\n"
                job = await run_in_threadpool(house.jobs.get, TENANT, job.id)


@router.get(
    "/logs",
    response_class=Response,
    responses=problems(
        NotFound, success={"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The log."}
    ),
)
def get_logs(
    job_id: str,
    house: InHouse,
    offset: Annotated[int, Query(ge=0, le=_LARGEST, description="The byte to read from.")] = 0,
) -> Response:
    """The runner's log from a byte on; it grows while the job runs. `X-Next-Offset` is where to read on."""
    part = house.logs.read(TENANT, job_id, offset=offset)
    headers = {"X-Next-Offset": str(part.next_offset), "X-Content-Type-Options": "nosniff"}
    return Response(part.content, media_type="text/plain; charset=utf-8", headers=headers)
