"""Hears what a runner says, what it prints and that it ends, without ever waiting for one of them alone."""

import os
import selectors
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from contract.failures import WorkerError
from worker.messages import MAX_LINE_BYTES, FromRunner, read_word
from worker.process import RunnerProcess
from worker.wire import Lines, LineTooLong

#: Read from a pipe in one turn, in bytes: a flood of one kind starves nothing else.
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Heard:
    """What one turn brought."""

    words: tuple[FromRunner, ...]
    printed: bytes
    #: The runner has ended, and it has no word left.
    ended: bool


class Ear:
    """Listens to one runner."""

    def __init__(self, runner: RunnerProcess) -> None:
        self._runner = runner
        self._lines = Lines(MAX_LINE_BYTES)
        self._selector = selectors.DefaultSelector()
        for source in (runner.words, runner.log, runner.ended):
            self._selector.register(source, selectors.EVENT_READ)

    def turn(self, timeout: float) -> Heard:
        """Wait until there is something, for `timeout` seconds at most; raises `WorkerError` for what is no message."""
        ready = {key.fd for key, _ in self._selector.select(timeout)}
        words = self._read(self._runner.words) if self._runner.words in ready else b""
        printed = self._read(self._runner.log) if self._runner.log in ready else b""
        ended = self._runner.ended in ready and not words
        return Heard(tuple(self._understand(words)), printed, ended)

    def last_prints(self) -> Iterator[bytes]:
        """What was printed and not yet heard; the runner and all that it started are gone."""
        while printed := self._read(self._runner.log):
            yield printed

    def close(self) -> None:
        """Stop listening."""
        self._selector.close()

    def _read(self, source: int) -> bytes:
        try:
            chunk = os.read(source, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not chunk and source in self._selector.get_map():
            # Closed at the other end: it would be ready for ever.
            self._selector.unregister(source)
        return chunk

    def _understand(self, chunk: bytes) -> Iterator[FromRunner]:
        try:
            yield from map(read_word, self._lines.feed(chunk))
        except (ValidationError, LineTooLong) as error:
            raise WorkerError("The process that ran the job sent what is no message.") from error
