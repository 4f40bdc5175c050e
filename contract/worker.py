"""What a worker says of itself, so that the API knows what can be asked for."""

from contract.artifact import OutputFormat, Quantizer
from contract.model import ModelFormat
from contract.value import Instant, Value


class WorkerCard(Value):
    """One worker: what it has and what it can write and run."""

    #: Unique to one start of one worker.
    id: str
    host: str
    version: str
    #: Jobs it runs at a time.
    slots: int
    cores: int
    memory_bytes: int
    instruction_set: str
    #: `cpu`, `cuda`.
    devices: tuple[str, ...]
    #: Runtimes by name, with their versions.
    runtimes: dict[str, str]
    outputs: tuple[OutputFormat, ...]
    #: Who can choose the integers of a file.
    quantizers: tuple[Quantizer, ...] = (Quantizer.PLAN,)


class LiveWorker(WorkerCard):
    """A worker and when it was last heard of."""

    seen_at: Instant
    #: Jobs it is running.
    busy: int


class ServiceLimits(Value):
    """The bounds of this service."""

    max_upload_bytes: int
    max_body_bytes: int
    max_steps: int
    max_wait_seconds: int


class Capabilities(Value):
    """What can be asked of this service now."""

    version: str
    workers: tuple[LiveWorker, ...]
    devices: tuple[str, ...]
    runtimes: dict[str, str]
    model_formats: tuple[ModelFormat, ...]
    outputs: tuple[OutputFormat, ...]
    quantizers: tuple[Quantizer, ...]
    limits: ServiceLimits
