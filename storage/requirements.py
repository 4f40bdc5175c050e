"""What a job wants: of the catalogue, and of a worker."""

import hashlib
from collections.abc import Container, Iterator

from sqlalchemy import Connection, Table, select

from contract.artifact import Quantizer
from contract.failures import NotFound, NotReady
from contract.model import ContentState
from contract.spec import JobSpec
from contract.worker import WorkerCard
from storage import schema

_MODEL = "mdl_"


def needs(spec: JobSpec) -> frozenset[str]:
    """What a worker must offer to run this job."""
    device = frozenset() if spec.device == "auto" else frozenset({f"device:{spec.device}"})
    quantizers = {output.options.quantizer for output in spec.outputs} - {Quantizer.PLAN}
    outputs = {f"output:{output.format.value}" for output in spec.outputs}
    return device | outputs | {f"quantizer:{quantizer.value}" for quantizer in quantizers}


def offers(card: WorkerCard) -> frozenset[str]:
    """What a worker offers."""
    return frozenset(
        {f"device:{device}" for device in card.devices}
        | {f"output:{output.value}" for output in card.outputs}
        | {f"quantizer:{quantizer.value}" for quantizer in card.quantizers}
    )


def fingerprint(spec: JobSpec) -> str:
    """SHA-256 of the spec: two equal ones compute the same."""
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def model_of(spec: JobSpec) -> str | None:
    """The id of the model, where it has weights of its own."""
    return spec.model if isinstance(spec.model, str) else None


def others_of(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """JSON pointers into the spec, and the ids of the models that its steps name beside the job's own."""
    for index, step in enumerate(spec.steps):
        for place, name in step.models.items():
            if name.startswith(_MODEL):
                yield f"/steps/{index}{place}", name


def inputs(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """JSON pointers into the spec, and the ids of the resources that they name."""
    model = model_of(spec)
    if model is not None:
        yield "/model", model
    for role, dataset in spec.data:
        if dataset is not None:
            yield f"/data/{role}", dataset
    yield from others_of(spec)


def hold_inputs(connection: Connection, tenant: str, spec: JobSpec, *, but: Container[str] = ()) -> frozenset[str]:
    """The ids of what the job reads, kept from being deleted until the transaction ends; `but` is not looked for.

    Raises `NotFound` or `NotReady` with a pointer to the first that is not there.
    """
    held = [(pointer, resource_id) for pointer, resource_id in inputs(spec) if resource_id not in but]
    for pointer, resource_id in held:
        table = schema.models if resource_id.startswith(_MODEL) else schema.datasets
        _hold(connection, table, tenant=tenant, resource_id=resource_id, pointer=pointer)
    return frozenset(resource_id for _, resource_id in held)


def _hold(connection: Connection, table: Table, *, tenant: str, resource_id: str, pointer: str) -> None:
    row = table.c.id == resource_id
    query = select(table.c.state).where(row, table.c.tenant == tenant).with_for_update(read=True, key_share=True)
    state = connection.execute(query).scalar_one_or_none()
    if state is None:
        raise NotFound(f"There is no resource {resource_id}.", pointer=pointer)
    if state != ContentState.READY:
        raise NotReady(f"{resource_id} has no content yet.", pointer=pointer)
