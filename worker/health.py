"""`python -m worker.health`: whether a worker of this host has been heard of lately; for a container's health check."""

import socket
import sys

from contract.failures import Unavailable
from contract.settings import Settings
from storage.database import open_database
from storage.workers import Workers


def healthy(settings: Settings) -> bool:
    """Whether the database knows of a live worker on this host."""
    try:
        live = Workers(open_database(settings.database)).live()
    except Unavailable:
        return False
    return any(worker.host == socket.gethostname() for worker in live)


if __name__ == "__main__":
    sys.exit(0 if healthy(Settings()) else 1)
