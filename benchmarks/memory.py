"""What an idle service holds resident."""

import time

from benchmarks.rows import Row
from benchmarks.stack import process_of, running

MIB = 1024**2


def measure() -> list[Row]:
    """The API and the worker's main process, ten seconds after they are ready."""
    with running():
        time.sleep(10)
        held = {
            name: process_of(module).memory_info().rss
            for name, module in [("API", "service"), ("worker main", "worker")]
        }
    return [
        Row(
            group="5 memory",
            what=f"resident memory of the idle {name}",
            measured=f"{held_bytes / MIB:.0f} MiB",
            aim="<= 150 MiB",
            met=held_bytes <= 150 * MIB,
        )
        for name, held_bytes in held.items()
    ]
