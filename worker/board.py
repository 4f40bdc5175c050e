"""What the main process of a worker and its slots know of each other."""

import mmap


class Board:
    """A few bytes of shared memory, made before the slots are forked.

    One writer for each byte and no lock: a process that is killed leaves nothing locked behind.
    """

    def __init__(self, slots: int) -> None:
        self._bytes = mmap.mmap(-1, 1 + slots)

    def ask_to_stop(self) -> None:
        """The worker shuts down; safe in a signal handler."""
        self._bytes[0] = 1

    def stopping(self) -> bool:
        """Whether the worker shuts down."""
        return self._bytes[0] == 1

    def set_busy(self, slot: int, busy: bool) -> None:
        """Say whether a slot is at work."""
        self._bytes[1 + slot] = int(busy)

    def busy(self) -> int:
        """How many slots are at work."""
        return sum(self._bytes[1:])
