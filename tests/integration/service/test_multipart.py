"""Files that come with a job, piece by piece, while room and time run short."""

import asyncio
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import Request
from starlette.types import Message, Receive, Scope, Send

from contract.failures import StorageFull
from contract.settings import Settings
from service.app import build_house
from service.bodies import Bodies
from service.house import TENANT, House
from service.multipart import Parts, read_parts
from tests.integration.service.bodies import UNTRAINED, zipped
from tests.integration.storage.house import pass_time

MIB = 2**20
SPEC = {"model": UNTRAINED, "data": {role: {"format": "npz"} for role in ("train", "evaluation")}}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """What the routes work with, over SQLite."""
    house = build_house(Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0", min_free_bytes=0))
    yield house
    house.database.close()


def request_with(**files: bytes) -> httpx.Request:
    """A call with these files."""
    parts = {"spec": (None, json.dumps(SPEC).encode()), **{name: (name, content) for name, content in files.items()}}
    return httpx.Request("POST", "http://x/v1/jobs", files=parts)


def read(house: House, request: httpx.Request, pieces: Iterable[bytes]) -> Parts:
    """What the service makes of the call whose body comes in these pieces."""
    coming, made = iter(pieces), list[Parts]()

    async def receive() -> Message:
        piece = next(coming, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: Message) -> None:
        del message

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del send
        made.append(await read_parts(Request(scope, receive), house))

    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": b"", "headers": headers}
    asyncio.run(Bodies(app, idle_seconds=60)(scope, receive, send))
    return made[0]


def shrink_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, *, size: int) -> None:
    """Let the disk that holds this folder have so many bytes."""

    def usage(path: object) -> SimpleNamespace:
        del path
        return SimpleNamespace(free=size - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))

    monkeypatch.setattr(shutil, "disk_usage", usage)


@pytest.mark.parametrize("piece", [64 * 1024, 16 * MIB], ids=["in pieces", "at once"])
def test_files_that_fit_together_are_taken(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, piece: int
) -> None:
    # Given a disk that holds one and a half times what is sent
    files = {"train": zipped(**{"x.npy": bytes(4 * MIB)}), "evaluation": zipped(**{"x.npy": bytes(MIB)})}
    request = request_with(**files)
    body = request.read()
    shrink_disk(monkeypatch, tmp_path / "blobs", size=len(body) * 3 // 2)
    # When it comes / Then there is room for the second file too
    parts = read(house, request, (body[start : start + piece] for start in range(0, len(body), piece)))
    assert {name: blob.size_bytes for name, blob in parts.files.items()} == {
        name: len(content) for name, content in files.items()
    }


def test_a_file_waits_for_the_others_however_long_they_take(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a large file, and a small one before it
    monkeypatch.setattr("service.multipart.RENEW_SECONDS", 0)
    request = request_with(train=zipped(**{"x.npy": b"x"}), evaluation=zipped(**{"x.npy": bytes(MIB)}))
    body = request.read()

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), 128 * 1024):
            pass_time(house.database, 1200)
            house.blobs.garbage()
            yield body[start : start + 128 * 1024]

    # When the large one takes hours, while what nobody needs is dropped / Then both are there
    parts = read(house, request, slowly())
    assert [b"".join(house.blobs.read(TENANT, blob.sha256)) != b"" for blob in parts.files.values()] == [True, True]


def test_files_that_do_not_fit_are_refused_for_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a disk that holds half of what is sent
    request = request_with(train=zipped(**{"x.npy": bytes(MIB)}))
    shrink_disk(monkeypatch, tmp_path / "blobs", size=MIB // 2)
    # When it comes / Then it is refused, with a time after which it may come again
    with pytest.raises(StorageFull) as caught:
        read(house, request, [request.read()])
    assert caught.value.retry_after is not None
