"""What the client repeats after an answer that did not come counts once, and is no error."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.failures import IdempotencyKeyInFlight, NotFound
from contract.model import ContentState
from modelpress.client import Client
from tests.integration.service.bodies import ARCHITECTURE, UNTRAINED, safetensors
from tests.integration.service.conftest import Api
from tests.integration.service.wire import Wire, wire_to

LOST = b""


@pytest.fixture
def wire(api: Api) -> Iterator[Wire]:
    """The wire to the API."""
    with wire_to(api.settings.port) as wire:
        yield wire


@pytest.fixture
def client(wire: Wire) -> Iterator[Client]:
    """A client at its other end."""
    with Client(wire.url, patience=20) as client:
        yield client


def test_an_upload_whose_answer_was_lost_is_done(wire: Wire, client: Client, tmp_path: Path) -> None:
    # Given weights, and a wire that will lose the answer to their upload
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(300_000))
    created = client.create_model(architecture=ARCHITECTURE)
    wire.instead = LOST
    # When they are sent / Then the repeat finds them there
    model = client._put(type(created), created.links["content"], path)
    assert wire.instead is None
    assert (model.id, model.state, model.size_bytes) == (created.id, ContentState.READY, path.stat().st_size)


def test_a_deletion_whose_answer_was_lost_is_done(wire: Wire, client: Client) -> None:
    # Given a model, and a wire that will lose the answer to its deletion
    created = client.create_model(architecture=ARCHITECTURE)
    wire.instead = LOST
    # When it is deleted / Then the repeat does not miss it
    client.delete_model(created.id)
    assert wire.instead is None
    # And what was not there at the first try is missed
    with pytest.raises(NotFound):
        client.delete_model(created.id)


def test_a_job_whose_key_is_still_in_flight_is_waited_for(wire: Wire, client: Client) -> None:
    # Given a service that is still at work on an earlier try, as the client will hear
    body = IdempotencyKeyInFlight().problem().model_dump_json(exclude_none=True)
    head = f"HTTP/1.1 409 Conflict\r\nRetry-After: 1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    wire.instead = (head + body).encode()
    # When a job is submitted / Then it is there, once
    job = client.submit({"model": UNTRAINED, "outputs": ["onnx"], "metadata": {"repeated": "yes"}})
    assert wire.instead is None
    assert [found.id for found in client.jobs(**{"metadata.repeated": "yes"})] == [job.id]
