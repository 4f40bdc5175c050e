"""A job's way in: from the body to the queue."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import Response

from contract.dataset import DatasetCreation
from contract.job import Job
from contract.model import ModelCreation
from contract.spec import InlineJobSpec, JobSpec
from service.creation import add_model, check_model
from service.house import TENANT, House
from service.idempotent import Repeatable, answer_once, answer_with
from service.multipart import DATASETS, Parts, announced_in, pointer_of
from service.specs import check, parse
from service.views import job_view
from storage.idempotency import Reply
from storage.values import Answer, Blob, NewJob

#: Seconds after which a look at a fresh job pays.
_LOOK_AGAIN = "1"


def accepted(job: Job) -> Answer:
    """202: the job is written, and will be run."""
    view = job_view(job)
    return answer_with(202, view, location=view.links["self"], retry_after=_LOOK_AGAIN)


def submit(house: House, raw: Any, write: Repeatable) -> Response:
    """Accept a job over resources that are there; raises the failure of whatever is wrong with the spec."""

    def act(reply: Reply[Job] | None) -> Job:
        # Only now: what was accepted once is answered the same way, whatever the workers can do since.
        spec = parse(JobSpec, raw)
        check(spec, house.workforce)
        return house.jobs.add(NewJob(tenant=TENANT, spec=spec), reply=reply)

    return enqueue(house, write, act)


def enqueue(house: House, write: Repeatable, act: Callable[[Reply[Job] | None], Job]) -> Response:
    """Write a job, answer, and have it rung for."""
    response = answer_once(house.idempotency, write, act=act, answer=accepted)
    house.keeper.wake()
    return response


def validate(house: House, raw: Any) -> JobSpec:
    """The spec with every default resolved, nothing stored; raises what `submit` would raise."""
    spec = parse(JobSpec, raw)
    check(spec, house.workforce)
    house.jobs.check_inputs(TENANT, spec)
    return spec


def validate_parts(house: House, spec: InlineJobSpec) -> InlineJobSpec:
    """The spec of a multipart job in the same way, without the files that it announces."""
    to_come = _placeholders(spec)
    _check_parts(house, spec)
    house.jobs.check_inputs(TENANT, _resolved(spec, to_come), but=to_come.values())
    return spec


def submit_parts(house: House, parts: Parts, write: Repeatable) -> Response:
    """Accept a job with all that came with it; where it is refused nothing of that is left."""
    made: dict[str, str] = {}

    def act(reply: Reply[Job] | None) -> Job:
        _check_parts(house, parts.spec)
        for name, creation in announced_in(parts.spec).items():
            made[name] = _make(house, creation, parts.files[name])
        spec = _resolved(parts.spec, made)
        return house.jobs.add(NewJob(tenant=TENANT, spec=spec), reply=reply)

    try:
        return enqueue(house, write, act)
    except BaseException:
        _unmake(house, made.values())
        raise


def _check_parts(house: House, spec: InlineJobSpec) -> None:
    check(_resolved(spec, _placeholders(spec)), house.workforce)
    for name, creation in announced_in(spec).items():
        if isinstance(creation, ModelCreation):
            check_model(creation, pointer=pointer_of(name))


def _make(house: House, creation: ModelCreation | DatasetCreation, blob: Blob) -> str:
    if isinstance(creation, ModelCreation):
        model = add_model(house, creation)
        return house.models.set_content(TENANT, model.id, blob).id
    dataset = house.datasets.add(TENANT, creation)
    return house.datasets.set_content(TENANT, dataset.id, blob).id


def _unmake(house: House, ids: Iterable[str]) -> None:
    for resource_id in ids:
        if resource_id.startswith("mdl_"):
            house.models.delete(TENANT, resource_id)
        else:
            house.datasets.delete(TENANT, resource_id)


def _placeholders(spec: InlineJobSpec) -> dict[str, str]:
    """Ids that look right, to check the rest of a spec before anything is made."""
    return {name: ("dat_" if name in DATASETS else "mdl_") + "0" * 26 for name in announced_in(spec)}


def _resolved(spec: InlineJobSpec, ids: Mapping[str, str]) -> JobSpec:
    """The spec over resources by their ids."""
    raw = spec.model_dump(mode="json", exclude={"teacher"})
    raw["model"] = ids.get("model", raw["model"])
    raw["data"] |= {name: ids[name] for name in DATASETS if name in ids}
    for step in raw["steps"]:
        if "teacher" in ids and "teacher" in step:
            step["teacher"] = _with_id(step["teacher"], ids["teacher"])
    return parse(JobSpec, raw)


def _with_id(teacher: str | list[str], uploaded: str) -> str | list[str]:
    """Whoever teaches, with the id of the model that came with the job."""
    if isinstance(teacher, str):
        return uploaded if teacher == "uploaded" else teacher
    return [uploaded if name == "uploaded" else name for name in teacher]
