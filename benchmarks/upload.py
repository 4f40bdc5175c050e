"""A large upload: its throughput beside `cp` and `sha256sum` of the same file, and what it costs the API in memory."""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from benchmarks.rows import Row
from benchmarks.stack import SCRATCH, forget_peak, peak_bytes, process_of, running

SIZE = 2 * 1024**3
MIB = 1024**2


def _large_safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(SIZE // (16 * MIB)):
            file.write(os.urandom(16 * MIB))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _copy_and_sum(source: Path, folder: Path) -> None:
    subprocess.run(["cp", source, folder / "copy"], check=True)
    subprocess.run(["sha256sum", folder / "copy"], check=True, capture_output=True)
    subprocess.run(["sync", folder / "copy"], check=True)


def _put(url: str, path: Path) -> None:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=600, blocksize=MIB)
    with path.open("rb") as file:
        connection.request("PUT", where.path, file, {"Content-Length": str(path.stat().st_size)})
        answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(answer.read())


def measure() -> list[Row]:
    """The two in turn, three times; the best of each, since the disk is shared."""
    SCRATCH.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=SCRATCH) as name, running(workers=0) as (stack, client):
        folder = Path(name)
        source = folder / "large.safetensors"
        _large_safetensors(source)
        api = process_of("service")
        peer, ours, growth = [], [], 0
        for _ in range(3):
            peer.append(_seconds(lambda: _copy_and_sum(source, folder)))
            created = client.create_model(architecture={"name": "resnet18"})
            before = api.memory_info().rss
            forget_peak(api)
            ours.append(_seconds(partial(_put, stack.url + created.links["content"], source)))
            growth = max(growth, peak_bytes(api) - before)
            client.delete_model(created.id)
        shutil.rmtree(folder, ignore_errors=True)
    ratio = min(peer) / min(ours)
    return [
        Row(
            group="3 upload",
            what="2 GiB upload, throughput",
            measured=f"{SIZE / MIB / min(ours):.0f} MiB/s",
            beside=f"{SIZE / MIB / min(peer):.0f} MiB/s by `cp` + `sha256sum` + `sync` ({ratio:.2f}x)",
            aim=">= 0.5x",
            met=ratio >= 0.5,
        ),
        Row(
            group="3 upload",
            what="2 GiB upload, growth of the API's memory",
            measured=f"{growth / MIB:.0f} MiB",
            aim="<= 64 MiB",
            met=growth <= 64 * MIB,
        ),
    ]
