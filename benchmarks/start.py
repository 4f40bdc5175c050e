"""How long a job waits for an idle worker: from POST to running, and to the first sign of the process that runs it."""

import time
from datetime import datetime

from benchmarks.rows import Row, percentile
from benchmarks.stack import running
from contract.job import EventKind
from modelpress.client import Client

JOBS = 12

#: Nothing to do, on the smallest of networks.
SPEC: dict[str, object] = {
    "model": {
        "architecture": {"name": "squeezenet1_1", "options": {"num_classes": 2}},
        "weights": "none",
        "preprocessing": {"size": [32, 32]},
    },
    "outputs": ["safetensors"],
}


def _waits(client: Client) -> tuple[float, float]:
    """Milliseconds from the job's creation to its claim and to its first progress."""
    job = client.wait(client.submit(SPEC).id)
    events = client.events(job.id)
    first = {
        kind: next(e.created_at for e in events if e.kind is kind) for kind in (EventKind.STARTED, EventKind.PROGRESS)
    }

    def since(moment: datetime) -> float:
        return (moment - job.created_at).total_seconds() * 1000

    return since(first[EventKind.STARTED]), since(first[EventKind.PROGRESS])


def _measured(*, warm: bool) -> tuple[list[float], list[float]]:
    with running(warm_spare=warm) as (_, client):
        client.wait(client.submit(SPEC).id)
        pairs = []
        for _ in range(JOBS):
            # The spare needs its seconds to load torch: this is what "spaced" means.
            time.sleep(6)
            pairs.append(_waits(client))
    started, working = zip(*pairs, strict=True)
    return list(started), list(working)


def measure() -> list[Row]:
    """Jobs one after the other, with a spare process and without."""
    warm, cold = _measured(warm=True), _measured(warm=False)
    running_p50, working_p50 = (percentile(values, 0.5) for values in warm)
    cold_running, cold_working = (percentile(values, 0.5) for values in cold)
    return [
        Row(
            group="1 start",
            what="POST to `running`, p50 of spaced jobs",
            measured=f"{running_p50:.0f} ms with a warm spare",
            beside=f"{cold_running:.0f} ms without",
            aim="<= 100 ms",
            met=running_p50 <= 100,
        ),
        Row(
            group="1 start",
            what="POST to the first progress of the job's own process, p50",
            measured=f"{working_p50:.0f} ms with a warm spare",
            beside=f"{cold_working:.0f} ms without ({working_p50 / cold_working:.2f}x)",
        ),
    ]
