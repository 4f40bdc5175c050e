"""Measure the service and what pruning costs, or what is named of it: `python -m benchmarks start upload`."""

import sys

from benchmarks import acceptance, memory, overhead, pruning_costs, start, upload
from benchmarks.rows import PAGE, keep

ALL = {
    "start": start.measure,
    "acceptance": acceptance.measure,
    "upload": upload.measure,
    "overhead": overhead.measure,
    "memory": memory.measure,
    "pruning": pruning_costs.measure,
}


def main(names: list[str]) -> None:
    """Measure, one group after the other, and keep each group's rows as soon as it is done."""
    for name in names or ALL:
        print(f"{name} ...", flush=True)
        rows = ALL[name]()
        keep(rows)
        for row in rows:
            print("  " + row.line())
    print(f"Written to {PAGE}")


main(sys.argv[1:])
