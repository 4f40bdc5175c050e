"""A client that sends nothing is given up; one that only waits does not keep the process alive."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.deadline import until
from tests.integration.service.bodies import UNTRAINED, new_model, safetensors
from tests.integration.service.conftest import Api, serving


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that waits a second for 64 KiB of a body."""
    with serving(tmp_path_factory.mktemp("hasty"), upload_idle_seconds=1.0) as api:
        yield api


def sent(api: Api, head: str, *pieces: bytes, every: float) -> bytes:
    """What the service answers to a request whose body comes in pieces, with a pause behind each."""
    with socket.create_connection(("127.0.0.1", api.settings.port), timeout=30) as connection:
        connection.sendall(head.encode())
        for piece in pieces:
            time.sleep(every)
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


@pytest.mark.parametrize("path", ["content", "/v1/jobs"])
def test_a_body_that_stops_coming_is_given_up(hasty: Api, path: str) -> None:
    # Given a request that announces a body and sends a few bytes of it
    links = new_model(hasty.http)["links"]
    assert isinstance(links, dict)
    method, url = ("PUT", links["content"]) if path == "content" else ("POST", path)
    head = f"{method} {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nContent-Type: application/json\r\n\r\n"
    # When nothing more comes / Then it is answered, and the connection closed
    answer = sent(hasty, head, safetensors(100), every=0)
    assert b" 408 " in answer.split(b"\r\n", 1)[0]
    assert b"request_timeout" in answer
    assert hasty.http.get(links["self"]).json()["state"] == "awaiting_content"


def test_a_body_that_drips_is_given_up(hasty: Api) -> None:
    # Given a client that sends a byte now and then, so that it is never silent for a second
    links = new_model(hasty.http)["links"]
    assert isinstance(links, dict)
    head = f"PUT {links['content']} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    # When it goes on for ten seconds / Then it was given up long before
    began = time.monotonic()
    answer = sent(hasty, head, *[b"x"] * 100, every=0.1)
    assert b" 408 " in answer.split(b"\r\n", 1)[0]
    assert time.monotonic() - began < 9


def test_a_slow_client_that_means_it_is_waited_for(hasty: Api) -> None:
    # Given a client that sends 64 KiB every half second, for longer than a second
    links = new_model(hasty.http)["links"]
    assert isinstance(links, dict)
    content = safetensors(5 * 64 * 1024)
    head = f"PUT {links['content']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    pieces = [content[start : start + 65_536] for start in range(0, len(content), 65_536)]
    # When it is done / Then the model is ready
    assert b" 200 " in sent(hasty, head, *pieces, every=0.5).split(b"\r\n", 1)[0]


def test_the_memory_of_an_upload_is_bounded(hasty: Api) -> None:
    # Given a body without an announced length, larger than any spec / When it is sent where a spec is expected
    answer = hasty.http.post(
        "/v1/jobs", content=iter([b" " * 65_536] * 32), headers={"Content-Type": "application/json"}
    )
    # Then it is refused
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_those_who_wait_do_not_hold_up_the_end(tmp_path: Path) -> None:
    # Given one who waits for a job, and one who listens to its events
    with serving(tmp_path) as api:
        job = api.http.post("/v1/jobs", json={"model": UNTRAINED, "outputs": ["onnx"]}).json()
        answers: list[httpx.Response] = []

        def ask(url: str, headers: dict[str, str]) -> None:
            answers.append(httpx.get(url, headers=headers, timeout=60, trust_env=False))

        base = str(api.http.base_url)
        asking = [
            threading.Thread(target=ask, args=(base + job["links"][link], headers))
            for link, headers in (("self", {"Prefer": "wait=300"}), ("events", {"Accept": "text/event-stream"}))
        ]
        for thread in asking:
            thread.start()
        until(lambda: _connections(api) >= 2, seconds=20)
        # When the service is told to end
        api.process.terminate()
        # Then it lets them go and ends, long before the fifteen seconds that requests get
        assert api.process.wait(10) == -signal.SIGTERM
        for thread in asking:
            thread.join(10)
    assert sorted(answer.status_code for answer in answers) == [200, 200]


def _connections(api: Api) -> int:
    process = psutil.Process(api.process.pid)
    return sum(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections("tcp")) - 1
