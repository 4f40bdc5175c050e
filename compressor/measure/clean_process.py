"""The near side of a witness: starts it with nothing but the files, asks, and reads its answers."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import torch
from torch import Tensor

from compressor.witness import Answer, Answered, Loaded, Memory, Message, PeakMemory, Time, Timed, decode, encode
from contract.failures import ArtifactMismatch
from contract.host import threads_of

M = TypeVar("M", bound=Message)

#: What of our environment a witness needs to find the interpreter's libraries.
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_INPUTS, _OUTPUTS, _TIMED = "inputs.npy", "outputs.npy", "timed.npy"
#: Where a witness's libraries lay down what they like.
_OWN = "tmp"


def _environment(folder: Path, threads: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # What a runtime compiles or notes down goes when the witness does, and none finds what another's has left.
    return kept | threads_of(threads) | {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "TMPDIR": str(folder)}


class CleanProcess:
    """One delivered file in a process of its own; made by `clean_process`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, errors: IO[str], *, name: str) -> None:
        self._process, self._folder, self._errors, self._name = process, folder, errors, name
        #: What the witness said when the file was loaded.
        self.loaded = self._hear(Loaded)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def answer(self, x: Tensor) -> Tensor:
        """The file's logits for inputs of shape (N, C, H, W)."""
        np.save(self._folder / _INPUTS, x.numpy())
        self._ask(Answer(_INPUTS, _OUTPUTS), Answered)
        return torch.from_numpy(np.load(self._folder / _OUTPUTS)).float()

    def prepare(self, x: Tensor) -> None:
        """Lay the batch ready whose runs will be timed, and run it once."""
        np.save(self._folder / _TIMED, x.numpy())
        self.time(runs=1, seconds=0, least=1)

    def time(self, *, runs: int, seconds: float, least: int) -> tuple[float, ...]:
        """Milliseconds of each run of the batch laid ready: up to `runs` or `seconds`, but no fewer than `least`."""
        return tuple(self._ask(Time(_TIMED, runs, seconds, least), Timed).milliseconds)

    def peak_memory(self) -> int:
        """The process's largest resident memory so far, in bytes."""
        return self._ask(Memory(), PeakMemory).size

    def _ask(self, question: Message, answer: type[M]) -> M:
        if self._process.stdin is None:
            raise ValueError("a witness needs a pipe to be asked through")
        try:
            self._process.stdin.write(encode(question))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._hear(answer)

    def _hear(self, answer: type[M]) -> M:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise self._died()
        message = decode(line)
        if not isinstance(message, answer):
            raise TypeError(f"expected {answer.__name__}, heard {type(message).__name__}")
        return message

    def _died(self) -> ArtifactMismatch:
        status = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip().rpartition("\n")[2][:300]
        why = f"signal {-status}" if status < 0 else last or f"exit status {status}"
        return ArtifactMismatch(f"{self._name} could not be loaded and run in a clean process: {why}")


def _lay(files: Mapping[str, Path], folder: Path) -> str:
    """Lay the files into the folder, unpacked as their user would; the name of the one to load."""
    for given, path in files.items():
        shutil.copyfile(path, folder / given)
    main = next(iter(files))
    if main.endswith(".zip"):
        shutil.unpack_archive(folder / main, folder)
    return main.removesuffix(".zip")


@contextmanager
def clean_process(files: Mapping[str, Path], *, scratch: Path, threads: int) -> Iterator[CleanProcess]:
    """A process that has loaded the first of `files`, which lie before it under the names given.

    Raises ArtifactMismatch where the file cannot be loaded.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="witness-") as name, tempfile.TemporaryFile("w+") as errors:
        folder = Path(name)
        main = _lay(files, folder)
        own = folder / _OWN
        own.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-m", "compressor.witness", main, "--threads", str(threads)],
            cwd=folder,
            env=_environment(own.resolve(), threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                yield CleanProcess(process, folder, errors, name=main)
            finally:
                process.kill()
