"""The whole service on one machine: broker, API and workers, started, looked after and stopped together."""

import contextlib
import fcntl
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape

from contract.settings import Settings
from modelpress.part import Part, begin_log, last_lines
from modelpress.parts import StackError, recipes, url_of

#: How long one part may take until it does its work, in seconds.
_START_SECONDS = 120.0
#: How often the parts are looked after, in seconds.
_TICK_SECONDS = 0.1
#: The longest path of a unix socket that the kernel takes, in bytes (sun_path, with its end).
_MAX_SOCKET_PATH = 107


def _tell_nobody(text: str) -> None:
    del text


class Stack:
    """Broker, API and workers as one context: inside of it they run, after it none of them does.

    A part that dies is started anew. Two stacks need two data folders, and nothing else. One thread starts all parts
    and looks after them, for the kernel ends each with the thread that started it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tell: Callable[[str], None] = _tell_nobody,
        stop: threading.Event | None = None,
    ) -> None:
        self._given = settings
        self._tell = tell
        #: Whoever sets it stops the stack.
        self._stop = stop or threading.Event()
        self._started = threading.Event()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="stack", daemon=True)
        #: The settings that the parts run with: a free port and the broker's address are in place.
        self.settings = settings

    @property
    def url(self) -> str:
        """Where the API answers."""
        return url_of(self.settings)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.wait()
        except BaseException:
            self.stop()
            raise
        if self._trouble is not None:
            self._thread.join()
            raise self._trouble
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything: workers hand their jobs back first, the broker goes last."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._places() as sockets:
                self.settings = _resolved(self._given, sockets)
                broker = None if self._given.redis_url else sockets / "redis.sock"
                self._look_after([Part(recipe) for recipe in recipes(self.settings, broker_socket=broker)])
        except Exception as trouble:
            self._trouble = trouble
        finally:
            self._started.set()

    @contextlib.contextmanager
    def _places(self) -> Iterator[Path]:
        """The data folder, held by this stack alone; yields the folder for the broker's socket."""
        folder = self._given.data_dir.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as places:
            places.enter_context(_held(folder / "stack.lock"))
            if len(os.fsencode(folder / "redis.sock")) > _MAX_SOCKET_PATH:
                yield Path(places.enter_context(tempfile.TemporaryDirectory(prefix="modelpress-")))
            else:
                yield folder

    def _look_after(self, parts: Sequence[Part]) -> None:
        try:
            for part in parts:
                self._start(part)
            self._started.set()
            while not self._stop.wait(_TICK_SECONDS):
                for told in filter(None, [part.look_after() for part in parts]):
                    self._tell(told)
        finally:
            self._end(parts)

    def _start(self, part: Part) -> None:
        begin_log(part.recipe.log)
        part.start()
        deadline = time.monotonic() + _START_SECONDS
        while not part.recipe.ready():
            cause = part.cause_of_death or ("too slow" if time.monotonic() > deadline else None)
            if cause is not None:
                raise StackError(f"{part.recipe.name} did not start ({cause}):\n{last_lines(part.recipe.log)}")
            if self._stop.wait(_TICK_SECONDS):
                raise StackError("stopped before it was up")
        self._tell(f"{part.recipe.name} is up")

    def _end(self, parts: Sequence[Part]) -> None:
        """Backwards, kind by kind: the workers together, then the API, then the broker."""
        kinds = dict.fromkeys(part.recipe.kind for part in reversed(parts))
        for kind in kinds:
            alike = [part for part in parts if part.recipe.kind == kind]
            for part in alike:
                part.ask_to_end()
            for part in alike:
                part.end()
                self._tell(f"{part.recipe.name} is down")


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"another stack uses {path.parent}") from None
        yield


def _resolved(settings: Settings, sockets: Path) -> Settings:
    return settings.model_copy(
        update={
            "data_dir": settings.data_dir.absolute(),
            "port": settings.port or _free_port(settings.host),
            "redis_url": settings.redis_url or f"redis+socket://{sockets / 'redis.sock'}",
        }
    )


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def up(settings: Settings) -> int:
    """Run the stack in the foreground until SIGINT or SIGTERM; returns the exit code."""
    console = Console(highlight=False)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def tell(text: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {escape(text)}")

    try:
        with Stack(settings, tell=tell, stop=stop) as stack:
            tell(f"answers on {stack.url}, stops on Ctrl-C")
            stop.wait()
    except StackError as error:
        tell(str(error))
        return 0 if stop.is_set() else 1
    return 0
