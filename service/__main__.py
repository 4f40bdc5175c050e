"""`python -m service`: the API, on the address that the settings name."""

import ipaddress
import logging
import sys
from types import FrameType

import uvicorn

from contract.settings import Settings
from service.app import create_app
from service.house import House


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """Lets go of those who only wait, as soon as it is told to end."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        config = uvicorn.Config(
            self._app,
            host=settings.host,
            port=settings.port,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=15,
            timeout_keep_alive=30,
            limit_concurrency=1000,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGINT and SIGTERM."""
        house: House = self._app.state.house
        house.watcher.close()
        super().handle_exit(sig, frame)


def main() -> int:
    """Serve until told to stop; 2 where the settings would leave the service open to others."""
    settings = Settings()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if not settings.keys and not is_loopback(settings.host):
        sys.stderr.write(
            f"{settings.host} can be reached by others: set MODELPRESS_API_KEYS, or MODELPRESS_HOST=127.0.0.1.\n"
        )
        return 2
    _Server(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
