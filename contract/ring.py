"""The doorbell: what whoever rings and whoever listens must agree on, over Celery and Redis."""

from typing import Literal, TypedDict

#: The one task. It carries nothing: whoever hears it claims the jobs that it can run, the best first.
RING_TASK = "modelpress.ring"

#: One queue for each device.
Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")


class TransportOptions(TypedDict):
    """Options of kombu's Redis transport; times are in seconds."""

    global_keyprefix: str
    socket_timeout: float
    socket_connect_timeout: float
    socket_keepalive: bool
    health_check_interval: int
    retry_on_timeout: bool


#: Both ends bear the same prefix, and neither waits for ever on a broker that has gone silent. A retry may ring
#: twice, which is harmless: the second ring finds no job.
TRANSPORT_OPTIONS = TransportOptions(
    global_keyprefix="modelpress:",
    socket_timeout=5,
    socket_connect_timeout=3,
    socket_keepalive=True,
    health_check_interval=25,
    retry_on_timeout=True,
)


def queue_of(device: Literal["auto", "cpu", "cuda"]) -> Device:
    """The queue to ring for a job that asks for this device; workers with CUDA listen on both."""
    return "cuda" if device == "cuda" else "cpu"
