"""The doorbell's button: tells the workers that there is something to do, and nothing of what."""

from celery import Celery
from kombu.exceptions import OperationalError

from contract.ring import RING_TASK, TRANSPORT_OPTIONS, Device


class BellOutOfOrder(Exception):
    """The broker did not take the ring."""


class Bell:
    """Rings through Celery; whoever hears it finds the work in SQL."""

    def __init__(self, broker: str) -> None:
        self._celery = Celery("modelpress", broker=broker, set_as_current=False)
        self._celery.conf.update(
            task_ignore_result=True,
            task_serializer="json",
            broker_transport_options={**TRANSPORT_OPTIONS, "socket_timeout": 3.0, "socket_connect_timeout": 1.0},
            task_publish_retry=False,
        )

    def ring(self, device: Device) -> None:
        """Ring once; raises `BellOutOfOrder`."""
        try:
            self._celery.send_task(RING_TASK, queue=device, ignore_result=True, retry=False)
        except (OperationalError, OSError) as error:
            raise BellOutOfOrder from error

    def works(self) -> bool:
        """Whether the broker answers."""
        try:
            with self._celery.connection_for_write() as connection:
                # One try; without a start the library sleeps two seconds before it gives up.
                connection.ensure_connection(max_retries=1, interval_start=0)
        except (OperationalError, OSError):
            return False
        return True

    def close(self) -> None:
        """Let go of the connections."""
        self._celery.close()
