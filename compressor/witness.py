"""A clean process that loads one delivered file as its user would, answers with it, and times it.

`python -m compressor.witness model.onnx --threads 2` reads questions as lines of JSON and answers each with one line.
Arrays go by files in the working folder. It knows nothing of the job: only the file, the runtime and the inputs.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from compressor.format import Floats, Run, runtime_of


@dataclass(frozen=True)
class Answer:
    """Asks for the logits of the inputs in one file, to be written into another."""

    inputs: str
    outputs: str


@dataclass(frozen=True)
class Time:
    """Asks for the times of up to `runs` runs or `seconds`, whichever comes first, but of no fewer than `least`."""

    inputs: str
    runs: int
    seconds: float
    least: int


@dataclass(frozen=True)
class Memory:
    """Asks for the largest resident memory so far."""


@dataclass(frozen=True)
class Loaded:
    """The file is loaded; said once, before any question."""

    runtime: str
    seconds: float


@dataclass(frozen=True)
class Answered:
    """The logits are written."""

    images: int


@dataclass(frozen=True)
class Timed:
    """One time in milliseconds for each run."""

    milliseconds: tuple[float, ...]


@dataclass(frozen=True)
class PeakMemory:
    """The largest resident memory so far, in bytes."""

    size: int


Message = Answer | Time | Memory | Loaded | Answered | Timed | PeakMemory
_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Answer, Time, Memory, Loaded, Answered, Timed, PeakMemory)
}


def encode(message: Message) -> str:
    """The message as one line of JSON."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n"


def decode(line: str) -> Message:
    """The message in a line that `encode` wrote."""
    fields: dict[str, Any] = json.loads(line)
    return _KINDS[fields.pop("kind")](**fields)


def _load(path: Path, threads: int) -> tuple[Loaded, Run]:
    runtime = runtime_of(path)
    started = time.perf_counter()
    run = runtime.open_file(path, threads)
    return Loaded(runtime.version(), time.perf_counter() - started), run


def _peak_memory() -> int:
    # ru_maxrss outlives exec and would tell of the parent; the kernel's high-water mark begins with this program.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _times(run: Run, x: Floats, question: Time) -> Iterator[float]:
    run(x)  # The caches still hold the other witness's network.
    end = time.perf_counter() + question.seconds
    for count in range(question.runs):
        if count >= question.least and time.perf_counter() > end:
            return
        started = time.perf_counter_ns()
        run(x)
        yield (time.perf_counter_ns() - started) / 1e6


def _reply(question: Message, run: Run) -> Message:
    match question:
        case Answer(inputs, outputs):
            logits = run(np.load(inputs))
            np.save(outputs, logits)
            return Answered(len(logits))
        case Time(inputs):
            return Timed(tuple(_times(run, np.load(inputs), question)))
        case Memory():
            return PeakMemory(_peak_memory())
        case _:
            raise ValueError(f"not a question: {type(question).__name__}")


def _serve(path: Path, threads: int, questions: IO[str], replies: IO[str]) -> None:
    loaded, run = _load(path, threads)
    replies.write(encode(loaded))
    replies.flush()
    for line in questions:
        replies.write(encode(_reply(decode(line), run)))
        replies.flush()


def main() -> None:
    """Serve questions until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    # Libraries that print would break the conversation: their standard output becomes standard error.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(arguments.file, arguments.threads, sys.stdin, replies)


if __name__ == "__main__":
    main()
