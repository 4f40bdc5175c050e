"""How many jobs are accepted in a second, each durable before its 202, beside an app that keeps nothing."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.rows import Row, percentile
from benchmarks.stack import running
from benchmarks.start import SPEC

CLIENTS, SECONDS = 8, 10


def _client(url: str, path: str) -> list[float]:
    """Post over one connection for the whole time; the milliseconds of each answer."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    body, took = json.dumps(SPEC), []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        begin = time.perf_counter()
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise RuntimeError(f"{path} answered {answer.status}")
        took.append((time.perf_counter() - begin) * 1000)
    return took


def _load(url: str, path: str) -> tuple[float, float]:
    """Answers per second and the 99th percentile in milliseconds, of concurrent clients."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        took = [ms for part in pool.map(lambda _: _client(url, path), range(CLIENTS)) for ms in part]
    return len(took) / SECONDS, percentile(took, 0.99)


@contextmanager
def _peer(broker: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "benchmarks.peer_app:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    process = subprocess.Popen(command, env=os.environ | {"PEER_BROKER": broker})
    try:
        _until_open(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the peer did not start")


def measure() -> list[Row]:
    """Ours and the peer in turn, over the same broker."""
    with running(workers=0) as (stack, _):
        ours, ours_p99 = _load(stack.url, "/v1/jobs")
        with _peer(stack.settings.broker) as url:
            peer, peer_p99 = _load(url, "/jobs")
    return [
        Row(
            group="2 acceptance",
            what=f"jobs accepted per second, durable (SQLite, synchronous=FULL), {CLIENTS} clients",
            measured=f"{ours:.0f}/s",
            beside=f"{peer:.0f}/s by an app that only calls send_task ({ours / peer:.2f}x)",
            aim=">= 100/s",
            met=ours >= 100,
        ),
        Row(
            group="2 acceptance",
            what="the same, p99",
            measured=f"{ours_p99:.0f} ms",
            beside=f"{peer_p99:.0f} ms",
            aim="<= 100 ms",
            met=ours_p99 <= 100,
        ),
    ]
