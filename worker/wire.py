"""Lines out of a stream of bytes, however they arrive."""

from collections.abc import Iterator


class LineTooLong(Exception):
    """A line is longer than the other side may send."""


class Lines:
    """Cuts what arrives into lines; what is left waits for its end."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes, without their ends; raises `LineTooLong`."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            self._keep(piece)
            yield b"".join(self._rest)
            self._rest, self._length = [], 0
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length > self._max_bytes:
            raise LineTooLong
        self._rest.append(piece)
