"""The wire between a client and the service, on which an answer can be lost."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wire:
    """Carries what it is given to the service and back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._door = socket.create_server(("127.0.0.1", 0))
        #: What the client hears in place of the next answer, before its connection breaks.
        self.instead: bytes | None = None

    @property
    def url(self) -> str:
        """Where the client finds it."""
        return f"http://127.0.0.1:{self._door.getsockname()[1]}"

    def carry(self) -> None:
        """Let clients in until the door is shut."""
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                service = socket.create_connection(("127.0.0.1", self._port))
                for act in (self._forth, self._back):
                    threading.Thread(target=act, args=(client, service), daemon=True).start()

    def close(self) -> None:
        """Shut the door; who waits at it is woken."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _forth(self, client: socket.socket, service: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(65_536):
                service.sendall(piece)
            service.shutdown(socket.SHUT_WR)

    def _back(self, client: socket.socket, service: socket.socket) -> None:
        with suppress(OSError), client, service:
            while piece := service.recv(65_536):
                if self.instead is not None:
                    said, self.instead = self.instead, None
                    client.sendall(said)
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(piece)


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to the service on this port."""
    wire = Wire(port)
    carrying = threading.Thread(target=wire.carry)
    carrying.start()
    try:
        yield wire
    finally:
        wire.close()
        carrying.join(10)
