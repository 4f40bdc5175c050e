"""The log of a job: what its runner prints, without a trace of the machine it ran on."""

import re
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import contract

#: A line that does not end is passed on after so many bytes.
_MAX_LINE_BYTES = 8192
#: Printed bytes gather for so long before they are stored, in seconds.
_GATHER_SECONDS = 0.5


class JobLog:
    """Gathers what is printed and passes it on in whole lines, paths of this machine replaced by plain names."""

    def __init__(self, append: Callable[[bytes], bool], *, scratch: Path, cap_bytes: int) -> None:
        self._append = append
        self._names = _plain_names(scratch)
        self._hidden = re.compile(b"|".join(re.escape(path) for path in self._names))
        #: What this attempt may still say; the store says that a log was cut, so it gets one byte too many.
        self._left = cap_bytes + 1
        self._rest = b""
        self._next_at = time.monotonic()

    def note(self, text: str) -> None:
        """Add a line of our own."""
        self.feed(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n".encode())

    def feed(self, chunk: bytes) -> None:
        """Take what was printed."""
        if len(self._rest) < self._left + _MAX_LINE_BYTES:
            self._rest += chunk

    def flush_if_due(self) -> None:
        """Pass whole lines on, at most twice a second."""
        if self._rest and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _GATHER_SECONDS
            whole = self._rest.rfind(b"\n") + 1
            self._pass_on(whole or (len(self._rest) if len(self._rest) > _MAX_LINE_BYTES else 0))

    def flush(self) -> None:
        """Pass everything on."""
        self._pass_on(len(self._rest))

    def _pass_on(self, length: int) -> None:
        ready, self._rest = self._rest[:length], self._rest[length:]
        plain = self._hidden.sub(lambda found: self._names[found[0]], ready)[: self._left]
        if plain:
            self._left -= len(plain)
            self._append(plain)


def _plain_names(scratch: Path) -> dict[bytes, bytes]:
    """Folders of this machine and what a log calls them; the longest first, for some lie within others."""
    names = {
        str(scratch): "job",
        sysconfig.get_path("purelib"): "site-packages",
        sysconfig.get_path("stdlib"): "python",
        str(Path(contract.__file__).parents[1]): "modelpress",
        sys.prefix: "environment",
        str(Path.home()): "home",
    }
    longest_first = sorted(names.items(), key=lambda item: len(item[0]), reverse=True)
    return {path.encode(): name.encode() for path, name in longest_first if len(path) > 1}
