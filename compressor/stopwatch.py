"""How long candidates take, measured as the delivered file will be: in ONNX Runtime, side by side."""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from compressor.candidate import Candidate
from compressor.exports import onnx
from compressor.measure.clean_process import clean_process
from compressor.measure.latency import time_side_by_side
from contract.artifact import OutputPrecision


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Times float32 files on the processors of this machine."""

    #: Where files may lie meanwhile.
    scratch: Path
    batch_size: int
    threads: int

    def __call__(self, candidates: Sequence[Candidate]) -> tuple[float, ...]:
        """p50 of a batch in milliseconds, of each candidate, all in one session; raises `ExportFailed`."""
        with TemporaryDirectory(dir=self.scratch) as folder, ExitStack() as stack:
            processes = []
            for number, candidate in enumerate(candidates):
                path = _exported(candidate, Path(folder, f"{number}.onnx"))
                found = clean_process({path.name: path}, scratch=Path(folder), threads=self.threads)
                processes.append(stack.enter_context(found))
                processes[-1].prepare(torch.zeros(self.batch_size, *candidate.input_shape))
            timing = time_side_by_side(processes, batch_size=self.batch_size, threads=self.threads)
        return tuple(latency.p50_ms for latency in timing.latencies)


def _exported(candidate: Candidate, path: Path) -> Path:
    module = copy.deepcopy(candidate.module).to("cpu").eval()
    return onnx.export(replace(candidate, module=module), path, precision=OutputPrecision.FLOAT32)
