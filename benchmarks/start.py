"""How long a job waits for an idle worker, and how long one takes that has nothing to do: from POST to its end."""

import time
from datetime import datetime

from benchmarks.rows import Row, percentile
from benchmarks.stack import running
from contract.job import Job
from modelpress.client import Client

JOBS = 7

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
    """Milliseconds from the job's creation to its claim and to its end."""
    job = client.wait(client.submit(SPEC).id)
    if job.started_at is None or job.finished_at is None:
        raise RuntimeError(job.error)
    return _since(job, job.started_at), _since(job, job.finished_at)


def _since(job: Job, moment: datetime) -> float:
    return (moment - job.created_at).total_seconds() * 1000


def _measured(*, warm: bool) -> tuple[list[float], list[float]]:
    with running(warm_spare=warm) as (_, client):
        client.wait(client.submit(SPEC).id)
        pairs = []
        for _ in range(JOBS):
            # The spare needs its seconds to load torch: this is what "spaced" means.
            time.sleep(6)
            pairs.append(_waits(client))
    started, ended = zip(*pairs, strict=True)
    return list(started), list(ended)


def measure() -> list[Row]:
    """Jobs one after the other, with a spare process and without."""
    warm, cold = _measured(warm=True), _measured(warm=False)
    running_p50, ended_p50 = (percentile(values, 0.5) for values in warm)
    cold_running, cold_ended = (percentile(values, 0.5) for values in cold)
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
            what="POST to `succeeded` of a job with nothing to do but to prove its file, p50",
            measured=f"{ended_p50 / 1000:.2f} s with a warm spare",
            beside=f"{cold_ended / 1000:.2f} s without ({ended_p50 / cold_ended:.2f}x)",
        ),
    ]
