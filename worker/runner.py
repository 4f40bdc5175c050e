"""The process that does one job: the only part of a worker that loads torch.

`python -I -m worker.runner FD PARENT FILE_BYTES`, started in an empty folder of its own. It loads torch, says that it
is warm, waits for an assignment on standard input, does it, says how it went on the pipe FD, and ends. What it prints
is the job's log.
"""

import errno
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from contract.failures import Failure, MemoryLimit, StorageFull, WorkerError
from worker import sandbox
from worker.messages import (
    MAX_LINE_BYTES,
    Assignment,
    CheckpointLeft,
    Failed,
    FilesLeft,
    Finished,
    FromRunner,
    Interrupted,
    Progressed,
    StagedModel,
    StepStarted,
    StepSucceeded,
    StopPlease,
    ToRunner,
    Warm,
    line,
    read_order,
)
from worker.wire import Lines

if TYPE_CHECKING:
    from compressor.order import ModelInput, Order
    from contract.artifact import ArtifactFile
    from contract.job import Progress
    from contract.report import StepReport
    from contract.value import Json


class Voice:
    """The pipe up to the supervisor; any thread may speak."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def say(self, message: FromRunner) -> None:
        """Send one message; waits while the supervisor is busy."""
        with self._lock:
            self._pipe.write(line(message))
            self._pipe.flush()


class SupervisorDesk:
    """Tells the supervisor what the compressor tells its desk."""

    def __init__(self, voice: Voice, stop: threading.Event) -> None:
        self._voice = voice
        self._stop = stop
        self._checkpoints = 0

    def progress(self, progress: "Progress") -> None:
        """How far the job is."""
        self._voice.say(Progressed(progress=progress))

    def step_started(self, index: int) -> None:
        """A step begins."""
        self._voice.say(StepStarted(index=index))

    def step_succeeded(self, index: int, report: "StepReport") -> None:
        """A step is done and measured."""
        self._voice.say(StepSucceeded(index=index, report=report))

    def files_left(self, files: "tuple[ArtifactFile, ...]") -> None:
        """What there is to be had should the job fail."""
        self._voice.say(FilesLeft(files=files))

    def checkpoint(self, path: Path, position: "dict[str, Json]") -> None:
        """Take the checkpoint: moved, so that the job need not wait until it is stored."""
        self._checkpoints += 1
        name = f"{self._checkpoints:06}{path.suffix}"
        path.rename(Path("checkpoints", name))
        self._voice.say(CheckpointLeft(file=name, position=position))

    def stop_requested(self) -> bool:
        """Whether the job shall stop at its next checkpoint."""
        return self._stop.is_set()


def main(arguments: list[str]) -> None:
    """Do one job."""
    pipe, parent, file_bytes = (int(argument) for argument in arguments)
    sandbox.close(sandbox.Bounds(file_bytes=file_bytes), parent=parent)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    voice = Voice(os.fdopen(pipe, "wb"))
    _load()
    voice.say(Warm())
    orders = _orders()
    assignment = next(orders, None)
    if isinstance(assignment, Assignment):
        threading.Thread(target=_listen, args=(orders, stop), daemon=True).start()
        voice.say(_do(assignment, SupervisorDesk(voice, stop)))


def _load() -> None:
    """Import what every job needs, ahead of the job."""
    importlib.import_module("compressor.compress")


def _orders() -> Iterator[ToRunner]:
    lines = Lines(MAX_LINE_BYTES)
    while chunk := os.read(sys.stdin.fileno(), 65_536):
        yield from map(read_order, lines.feed(chunk))


def _listen(orders: Iterator[ToRunner], stop: threading.Event) -> None:
    """Hear what else the supervisor says; when it is gone, so is everything that was started here."""
    for order in orders:
        if isinstance(order, StopPlease):
            stop.set()
    os.killpg(0, signal.SIGKILL)


def _do(assignment: Assignment, desk: SupervisorDesk) -> FromRunner:
    from compressor.compress import compress, files_left
    from compressor.context import Interrupted as Stopped

    out = Path("out").absolute()
    try:
        outcome = compress(_order(assignment, out), desk)
    except Stopped:
        return Interrupted()
    except Exception as error:
        return Failed(problem=_named(error).problem(), files=files_left(out))
    return Finished(result=outcome.result, files=outcome.files)


def _named(error: Exception) -> Failure:
    """The failure that the client reads; what nobody foresaw is told in full to the log."""
    if isinstance(error, Failure):
        return error
    traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return MemoryLimit()
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StorageFull()
    return WorkerError()


def _order(assignment: Assignment, out: Path) -> "Order":
    from compressor.order import DataInput, Inputs, Order

    staged = Path("in").absolute()
    return Order(
        spec=assignment.spec,
        inputs=Inputs(
            model=_model(assignment.model, staged),
            datasets={role: DataInput(staged / data.file, data.format) for role, data in assignment.datasets.items()},
            others={name: _model(model, staged) for name, model in assignment.others.items()},
        ),
        out=out,
        scratch=Path("tmp").absolute(),
        threads=assignment.threads,
        device=assignment.device,
        resume=staged / assignment.resume if assignment.resume else None,
    )


def _model(model: StagedModel, staged: Path) -> "ModelInput":
    from compressor.models.source import ModelSource
    from compressor.order import ModelInput

    source = ModelSource(
        architecture=model.architecture,
        format=model.format,
        preprocessing=model.preprocessing,
        classes=model.classes,
    )
    return ModelInput(source, staged / model.weights if model.weights else None)


if __name__ == "__main__":
    main(sys.argv[1:])
