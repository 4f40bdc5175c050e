"""How long one batch takes: several files, each in a process of its own, in alternating blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compressor.measure.clean_process import CleanProcess
from compressor.measure.host import NOISE, OtherLoad, alone_on_host
from contract.host import instruction_set
from contract.report import Latency

#: A file is timed for so many runs or so many seconds, whichever comes first, but for no fewer than `LEAST` runs.
RUNS, SECONDS, LEAST = 100, 3.0, 20
#: One turn of one file before the next has its turn.
_BLOCK_RUNS, _BLOCK_SECONDS, _BLOCK_LEAST = 10, 0.3, 5
#: Warm-up of each file; long enough that the kernel's clock ticks (10 ms) can tell who was busy.
_WARM_UP_SECONDS = 0.25


@dataclass(frozen=True)
class Timing:
    """Files timed side by side."""

    #: In the order of the files.
    latencies: tuple[Latency, ...]
    #: Cores that others kept busy meanwhile; none where the host cannot say.
    other_cores: float | None

    @property
    def noisy(self) -> bool:
        """Whether others were so busy that the figures may be wrong."""
        return self.other_cores is not None and self.other_cores > NOISE


@dataclass
class _Times:
    process: CleanProcess
    milliseconds: list[float] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        runs = len(self.milliseconds)
        return runs >= LEAST and (runs >= RUNS or sum(self.milliseconds) >= SECONDS * 1e3)

    def block(self) -> None:
        self.milliseconds += self.process.time(runs=_BLOCK_RUNS, seconds=_BLOCK_SECONDS, least=_BLOCK_LEAST)


def summary(milliseconds: Sequence[float], *, batch_size: int, threads: int, runtime: str) -> Latency:
    """The percentiles of single times."""
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return Latency(
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        n=len(milliseconds),
        batch_size=batch_size,
        threads=threads,
        runtime=runtime,
        device="cpu",
        instruction_set=instruction_set(),
    )


def time_side_by_side(processes: Sequence[CleanProcess], *, batch_size: int, threads: int) -> Timing:
    """Time the batches that lie ready at the processes, turn by turn, while no one else on this host measures."""
    turns = [_Times(process) for process in processes]
    with alone_on_host():
        load = OtherLoad([process.pid for process in processes])
        for process in processes:
            process.time(runs=RUNS * 100, seconds=_WARM_UP_SECONDS, least=3)
        while pending := [turn for turn in turns if not turn.complete]:
            for turn in pending:
                turn.block()
        other_cores = load.cores()
    latencies = tuple(
        summary(turn.milliseconds, batch_size=batch_size, threads=threads, runtime=turn.process.loaded.runtime)
        for turn in turns
    )
    return Timing(latencies, other_cores)
