"""What the service costs a job: the whole of it, from POST to succeeded, beside a direct call of the compressor."""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.alone import last_word
from benchmarks.rows import Row
from benchmarks.stack import SCRATCH, running

EPOCHS = 9
PAIRS = 3


def measure() -> list[Row]:
    """The same job of about half a minute, both ways in turn; the medians."""
    SCRATCH.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=SCRATCH) as name, running() as (_, client):
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "benchmarks.direct", "prepare", folder], check=True)
        train = client.upload_dataset(folder / "train.zip").id
        model = client.upload_model(
            folder / "model.safetensors",
            architecture={"name": "resnet18", "options": {"num_classes": 10}},
            preprocessing={"size": [32, 32]},
        ).id
        spec = {
            "model": model,
            "data": {"train": train, "evaluation": train},
            "steps": [{"method": "fine_tune", "epochs": EPOCHS}],
        }
        ours, direct = [], []
        for _ in range(PAIRS):
            direct.append(float(last_word("benchmarks.direct", "run", str(folder), str(EPOCHS))))
            # The spare that waits for the next job is part of the service.
            time.sleep(6)
            job = client.wait(client.submit(spec).id)
            if job.finished_at is None or job.report is None:
                raise RuntimeError(job.error)
            ours.append((job.finished_at - job.created_at).total_seconds())
    median, peer = sorted(ours)[PAIRS // 2], sorted(direct)[PAIRS // 2]
    ratio = median / peer
    return [
        Row(
            group="4 overhead",
            what="a training job, POST to succeeded",
            measured=f"{median:.1f} s",
            beside=f"{peer:.1f} s by calling the compressor in a process of its own ({ratio:.3f}x)",
            aim="<= 1.05x",
            met=ratio <= 1.05,
        )
    ]
