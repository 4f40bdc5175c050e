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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
#: From inputs of shape (N, C, H, W) to logits of shape (N, classes).
Run = Callable[[Floats], Floats]
#: From a file and a number of threads to what runs it.
Open = Callable[[Path, int], Run]


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


def _onnx() -> tuple[str, Open]:
    import onnxruntime as ort  # A witness loads the one runtime that its file needs.

    from compressor.exports.onnx_zip import graph_file

    def open_file(path: Path, threads: int) -> Run:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the cores from the other witness, and twenty times the time from a busy host.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with graph_file(path) as graph:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: session.run(None, {name: x})[0]

    return f"onnxruntime {ort.__version__}", open_file


def _torch() -> tuple[str, Open]:
    import torch

    from compressor.models.files import load_model

    def open_file(path: Path, threads: int) -> Run:
        torch.set_num_threads(threads)
        module = load_model(path.parent).eval()

        def run(x: Floats) -> Floats:
            with torch.inference_mode():
                logits: Floats = module(torch.from_numpy(x)).numpy()
            return logits

        return run

    return f"torch {torch.__version__}", open_file


def _load(path: Path, threads: int) -> tuple[Loaded, Run]:
    runtime, open_file = _onnx() if path.suffix in (".onnx", ".zip") else _torch()
    started = time.perf_counter()
    run = open_file(path, threads)
    return Loaded(runtime, time.perf_counter() - started), run


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
