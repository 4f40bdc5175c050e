"""What must still be sent: rings at the doorbell. At least once, by any number of relays."""

from dataclasses import dataclass

from contract.ring import Device
from storage.database import Database


@dataclass(frozen=True)
class Ring:
    """One ring that is due."""

    id: int
    #: The queue to ring.
    device: Device
    #: How often it was tried before.
    tries: int


class Outbox:
    """Rings, written in the transaction of the change that wants them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, *, limit: int = 100) -> tuple[Ring, ...]:
        """Take rings to send; those that are neither marked sent nor failed within 30 s are due again."""
        raise NotImplementedError

    def mark_sent(self, rings: tuple[Ring, ...]) -> None:
        """Drop what was sent."""
        raise NotImplementedError

    def mark_failed(self, rings: tuple[Ring, ...]) -> None:
        """Try again later: after 1 s, doubling up to 30 s."""
        raise NotImplementedError

    def waiting(self) -> int:
        """How many are not sent."""
        raise NotImplementedError
