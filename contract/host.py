"""What a machine says of itself, for workers' cards and for reports, and how processes share it; the standard library
alone.
"""

import os
import platform
from pathlib import Path

#: From the widest to the plainest: what the kernel calls a processor's feature, and what we call it.
_X86 = {
    "amx_int8": "amx_int8",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512",
    "avx2": "avx2",
    "avx": "avx",
    "sse4_2": "sse4_2",
}
_ARM = {"i8mm": "neon_i8mm", "asimddp": "neon_dotprod", "asimd": "neon", "neon": "neon"}
#: Features of x86 and ARM.
_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(errors="replace") if path.exists() else ""


def _entry(cpuinfo: str, *keys: str) -> str | None:
    fields = (line.partition(":") for line in cpuinfo.splitlines())
    return next((value.strip() for key, _, value in fields if key.strip() in keys and value.strip()), None)


def widest(cpuinfo: str) -> str | None:
    """The widest vector instructions of which the text of /proc/cpuinfo tells."""
    flags = (_entry(cpuinfo, "flags", "Features") or "").split()
    return next((name for flag, name in (_X86 | _ARM).items() if flag in flags), None)


def instruction_set() -> str:
    """The widest vector instructions of this processor, such as `avx512_vnni`; else its architecture."""
    return widest(_cpuinfo()) or platform.machine() or "unknown"


def multiplies_bf16(cpuinfo: str | None = None) -> bool:
    """Whether this processor, or the one of which the text of /proc/cpuinfo tells, has products of bfloat16."""
    flags = (_entry(_cpuinfo() if cpuinfo is None else cpuinfo, "flags", "Features") or "").split()
    return not _BF16.isdisjoint(flags)


def processor() -> str:
    """The processor's name."""
    return _entry(_cpuinfo(), "model name", "Processor", "Hardware") or platform.machine() or "unknown"


def cores() -> int:
    """Cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(count: int) -> dict[str, str]:
    """The part of a process's environment by which its libraries compute with so many threads.

    Torch's threads wait awake for the next operator, but some microseconds only, as those of ONNX Runtime do: small
    networks take twice the time if threads sleep at once, and large ones beside other work if they never do.
    """
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))
    return counts | {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
