"""Measure the service and what compression costs and brings, or what is named: `python -m benchmarks start upload`."""

import sys

from benchmarks import (
    acceptance,
    distillation_speed,
    memory,
    overhead,
    pruning_costs,
    quantization_speed,
    semi_structured,
    start,
    upload,
)
from benchmarks.rows import PAGE, keep

ALL = {
    "start": start.measure,
    "acceptance": acceptance.measure,
    "upload": upload.measure,
    "overhead": overhead.measure,
    "memory": memory.measure,
    "pruning": pruning_costs.measure,
    "quantization": quantization_speed.measure,
    "compiled": quantization_speed.measure_compiled,
    "distillation": distillation_speed.measure,
    "sparse": semi_structured.measure,
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
