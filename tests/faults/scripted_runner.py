"""A runner that does what the job's metadata say: a real process that speaks the real messages, and no torch.

`{"act": NAME, "argument": TEXT}`. It says that it is warm, and prints its process id first.
"""

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from contract.artifact import ArtifactFile, ArtifactFormat
from contract.failures import UnfitModel
from contract.job import JobResult, Progress
from contract.report import Environment, Measurement, Ratios, Report
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
    StepStarted,
    StopPlease,
    ToRunner,
    Warm,
    line,
    read_order,
)
from worker.wire import Lines

PIPE, PARENT, FILE_BYTES = (int(argument) for argument in sys.argv[1:])
MEASURED = Measurement(parameters=1, nonzero_parameters=1, macs=1, size_bytes=1)
RESULT = JobResult(
    report=Report(
        baseline=MEASURED,
        compressed=MEASURED,
        ratio=Ratios(size_bytes=1, parameters=1, macs=1),
        environment=Environment(
            instruction_set="none", processor="none", cores=1, threads=1, device="cpu", versions={}
        ),
    )
)


def say(message: FromRunner) -> None:
    os.write(PIPE, line(message))


def orders() -> Iterator[ToRunner]:
    lines = Lines(MAX_LINE_BYTES)
    while chunk := os.read(0, 65_536):
        yield from map(read_order, lines.feed(chunk))


HEARD = orders()


def progress(fraction: float) -> None:
    say(Progressed(progress=Progress(fraction=fraction, step_count=1, phase="acting", updated_at=datetime.now(UTC))))


def deliver(name: str, content: bytes, *, told: bytes | None = None) -> ArtifactFile:
    Path("out", name).write_bytes(content)
    digest = hashlib.sha256(told if told is not None else content).hexdigest()
    return ArtifactFile(
        filename=name,
        format=ArtifactFormat.MODEL_JSON,
        media_type="application/json",
        size_bytes=len(content),
        sha256=digest,
    )


def finish(assignment: Assignment) -> None:
    """Deliver one file that holds what was to be read."""
    weights = Path("in", assignment.model.weights or "").read_bytes()
    say(Finished(result=RESULT, files=(deliver("model.json", weights),)))


def finish_when_told(assignment: Assignment) -> None:
    """The argument is a file; once it is there, deliver so many files that a database needs room for their names."""
    progress(0.5)
    while not Path(assignment.spec.metadata["argument"]).exists():
        time.sleep(0.05)
    names = ("model.json", *(f"{number}.json" for number in range(200)))
    say(Finished(result=RESULT, files=tuple(deliver(name, name.encode()) for name in names)))


def sleep(assignment: Assignment) -> None:
    progress(0.5)
    time.sleep(600)


def spin(assignment: Assignment) -> None:
    while True:
        pass


def fail(assignment: Assignment) -> None:
    say(Failed(problem=UnfitModel("It has no layers.").problem(), files=(deliver("model.json", b"half"),)))


def kill_itself(assignment: Assignment) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_itself_once(assignment: Assignment) -> None:
    """The argument is a file that remembers the first time."""
    memory = Path(assignment.spec.metadata["argument"])
    if memory.exists():
        finish(assignment)
    else:
        memory.touch()
        kill_itself(assignment)


def segfault(assignment: Assignment) -> None:
    ctypes.string_at(0)


def leave(assignment: Assignment) -> None:
    sys.exit(3)


def print_much(assignment: Assignment) -> None:
    for _ in range(1024):
        os.write(1, (b"x" * 1023 + b"\n") * 64)
    finish(assignment)


def print_paths(assignment: Assignment) -> None:
    """What a stack trace would show of the machine."""
    os.write(2, f"{Path.cwd()}/tmp {sys.prefix}/lib {os.__file__}\n".encode())
    finish(assignment)


def babble(assignment: Assignment) -> None:
    os.write(PIPE, b"this is no message\n")
    time.sleep(600)


def never_end_a_line(assignment: Assignment) -> None:
    while True:
        os.write(PIPE, b"x" * 65_536)


def leave_half(assignment: Assignment) -> None:
    """Have something to show, and then do what the argument says, which ends badly."""
    say(FilesLeft(files=(deliver("model.json", b"half"),)))
    ACTS[assignment.spec.metadata["argument"]](assignment)


def swell(assignment: Assignment) -> None:
    """Hold more memory than 256 MiB, in a child."""
    subprocess.run([sys.executable, "-c", "x = b'x' * (400 * 1024**2); import time; time.sleep(600)"], check=True)


def beget(assignment: Assignment) -> None:
    """Leave the session twice over: a grandchild that nobody's process group holds."""
    code = "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sleep(assignment)


def link(assignment: Assignment) -> None:
    """Deliver a file that is not the job's."""
    file = deliver("model.json", Path("/etc/hostname").read_bytes())
    Path("out", "model.json").unlink()
    Path("out", "model.json").symlink_to("/etc/hostname")
    say(Finished(result=RESULT, files=(file,)))


def falsify(assignment: Assignment) -> None:
    """Deliver other bytes than were proven."""
    say(Finished(result=RESULT, files=(deliver("model.json", b"these", told=b"those"),)))


def count_until_stopped(assignment: Assignment) -> None:
    """Leave a checkpoint when stopped; deliver what the one before had said when resumed."""
    if assignment.resume is not None:
        found = Path("in", assignment.resume).read_bytes()
        say(Finished(result=RESULT, files=(deliver("model.json", found),)))
        return
    say(StepStarted(index=0))
    progress(0.5)
    assert isinstance(next(HEARD), StopPlease)
    Path("checkpoints", "1.safetensors").write_bytes(b"seven")
    say(CheckpointLeft(file="1.safetensors", position={"count": 7}))
    say(Interrupted())


def tell_environment(assignment: Assignment) -> None:
    """Deliver the environment, the limits and what is to be read."""
    status = Path("/proc/self/status").read_text()
    limits = Path("/proc/self/limits").read_text()
    told = "\n".join([*(f"{name}={value}" for name, value in sorted(os.environ.items())), status, limits])
    say(Finished(result=RESULT, files=(deliver("model.json", told.encode()),)))


ACTS: dict[str, Callable[[Assignment], None]] = {
    act.__name__: act
    for act in (
        finish,
        finish_when_told,
        sleep,
        spin,
        fail,
        kill_itself,
        kill_itself_once,
        segfault,
        leave,
        print_much,
        print_paths,
        babble,
        never_end_a_line,
        leave_half,
        swell,
        beget,
        link,
        falsify,
        count_until_stopped,
        tell_environment,
    )
}


def main() -> None:
    sandbox.close(sandbox.Bounds(file_bytes=FILE_BYTES), parent=PARENT)
    say(Warm())
    assignment = next(HEARD, None)
    if isinstance(assignment, Assignment):
        os.write(1, f"runner {os.getpid()}\n".encode())
        ACTS[assignment.spec.metadata["act"]](assignment)


if __name__ == "__main__":
    main()
