"""The main job on real input: `make demo`.

Trains a ResNet-18 on scikit-learn's scanned digits, starts the whole service on this machine, sends weights and data
over HTTP, has the network pruned, taught by the original and quantized, and shows what came back. Everything it makes
lies in ./demo-output/; everything it starts it stops.
"""

import io
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from compressor.context import Context
from compressor.data.reading import read_images
from compressor.measure.accuracy import accuracy, answers
from compressor.methods import fine_tune
from compressor.models.source import ModelSource, read_candidate
from compressor.report.plots import accuracy_against_size, points
from compressor.report.style import write_png
from contract.dataset import DatasetFormat
from contract.job import Job, JobState
from contract.methods.train import FineTune
from contract.model import Architecture, ModelFormat, Preprocessing
from contract.report import Latency, Measurement, Report
from contract.settings import Settings
from modelpress import Client
from modelpress.up import Stack

OUT = Path("demo-output")
NETWORK = Architecture(name="resnet18", options={"num_classes": 10})
#: The digits are 8x8; a ResNet wants more room.
INPUT = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
TRAINING = FineTune(epochs=8, learning_rate=2e-3, batch_size=32, augment="crop")
STEPS = [
    {"method": "prune_channels", "ratio": 0.6},
    {"method": "distill", "epochs": 14, "learning_rate": 3e-3, "batch_size": 32, "augment": "crop"},
    {"method": "quantize_static"},
]  # fmt: skip
CONSTRAINTS = [
    {"metric": "accuracy", "kind": "max_drop", "value": 0.01, "unit": "absolute"},
    {"metric": "size_bytes", "kind": "max_ratio", "value": 0.10},
    {"metric": "latency", "kind": "max_ratio", "value": 0.5},
]

console = Console()


def write_zip(path: Path, pictures: np.ndarray, labels: np.ndarray) -> Path:
    """A zip with a folder of PNG images for each digit."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray((picture * 255 / 16).astype(np.uint8)).save(buffer, format="PNG")
            archive.writestr(f"{label}/{number:04}.png", buffer.getvalue())
    return path


def make_data() -> tuple[Path, Path]:
    """The scanned digits, half to learn from and half to judge by."""
    digits = load_digits()
    learn, judge, learn_labels, judge_labels = train_test_split(
        digits.images, digits.target, test_size=0.5, stratify=digits.target, random_state=0
    )
    train = write_zip(OUT / "digits-train.zip", learn, learn_labels)
    return train, write_zip(OUT / "digits-evaluation.zip", judge, judge_labels)


def train_network(train: Path, evaluation: Path) -> tuple[Path, float]:
    """A ResNet-18 that reads digits: its weights, and its accuracy on the half it has not seen."""
    source = ModelSource(architecture=NETWORK, format=ModelFormat.SAFETENSORS, preprocessing=INPUT)
    candidate = read_candidate(source, None, seed=0)
    learn, judge = (read_images(p, DatasetFormat.IMAGE_FOLDER_ZIP, INPUT, None) for p in (train, evaluation))
    with bar() as progress:
        task = progress.add_task("training a ResNet-18", total=1.0, phase="")
        watch = lambda fraction, phase: progress.update(task, completed=fraction, phase=phase)  # noqa: E731
        candidate = fine_tune.apply(candidate, TRAINING, Context(train=learn, progress=watch))
    path = OUT / "resnet18-digits.safetensors"
    save_file(candidate.module.state_dict(), path)
    return path, accuracy(answers(candidate.module, judge), judge.labels).value


def bar() -> Progress:
    """A progress bar that says what it waits for."""
    return Progress(
        TextColumn("{task.description:<22}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(), TextColumn("[dim]{task.fields[phase]}"), console=console,
    )  # fmt: skip


def compress(weights: Path, train: Path, evaluation: Path) -> Job:
    """Send everything to a service that runs on this machine, and wait for the job."""
    settings = Settings(port=0, data_dir=OUT / "service")
    with Stack(settings) as stack, Client(stack.url) as client:
        console.print(f"the service answers on {stack.url}")
        model = client.upload_model(weights, architecture=NETWORK.model_dump(), preprocessing=INPUT.model_dump())
        data = {"train": client.upload_dataset(train).id, "evaluation": client.upload_dataset(evaluation).id}
        spec = {
            "model": model.id, "data": data, "steps": STEPS, "constraints": CONSTRAINTS,
            "outputs": ["onnx", "safetensors"],
        }  # fmt: skip
        job = follow(client, client.submit(spec))
        fetch(client, job)
    return job


def follow(client: Client, job: Job) -> Job:
    """Wait for the job's end behind a progress bar."""
    with bar() as progress:
        task = progress.add_task("compressing it", total=1.0, phase="queued")

        def watch(job: Job) -> None:
            if job.progress is not None:
                progress.update(task, completed=job.progress.fraction, phase=job.progress.phase)

        return client.wait(job.id, watch=watch)


def fetch(client: Client, job: Job) -> None:
    """Lay the files out: the network to rebuild in a folder of its own."""
    client.download(job.id, OUT)
    folder = OUT / "model"
    folder.mkdir(exist_ok=True)
    for name in ("model.safetensors", "model.json"):
        if (OUT / name).exists():
            (OUT / name).replace(folder / name)


def show(job: Job, report: Report) -> None:
    """Before and after, what was promised, and where everything is."""
    table = Table(title="measured on the delivered model.onnx, reloaded in a clean process", title_justify="left")
    for name in ("", "before", "after", "after / before"):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows(report):
        table.add_row(*row)
    console.print(table)
    for verdict in job.constraints:
        mark = "[green]met[/]" if verdict.met else "[red]not met[/]"
        console.print(f"{mark}  {verdict.metric} {verdict.kind} {verdict.value:g}: {verdict.actual:.4f}")
    if report.drop is not None:
        low, high = (100 * end for end in report.drop.ci95)
        console.print(
            f"accuracy lost: {100 * report.drop.value:.2f} points, 95 % paired interval {low:.2f} to {high:.2f}"
        )
    for warning in job.warnings:
        console.print(f"[yellow]{warning.code}[/]  {warning.detail}")
    steps = [step.report for step in job.steps if step.report]
    write_png(
        accuracy_against_size(points(report, [step.method for step in job.steps], steps)),
        OUT / "accuracy-against-size.png",
    )
    for path in sorted(p for p in OUT.iterdir() if p.name != "service"):
        console.print(f"  {path}")


def rows(report: Report) -> list[tuple[str, str, str, str]]:
    """The table, line by line."""
    before, after = report.baseline, report.compressed

    def line(name: str, kind: str, old: float, new: float) -> tuple[str, str, str, str]:
        return name, format(old, kind), format(new, kind), f"{new / old:.3f}x"

    found = [("accuracy", share(before), share(after), "")]
    found.append(line("bytes of the file", ",.0f", before.size_bytes, after.size_bytes))
    found.append(line("parameters", ",.0f", before.parameters, after.parameters))
    found.append(line("MACs for one image", ",.0f", before.macs, after.macs))
    for part in ("p50_ms", "p90_ms"):
        old, new = latency(before.latency, part), latency(after.latency, part)
        found.append(line(f"latency {part[:3]}, ms", ".3f", old, new))
    return found


def share(measurement: Measurement) -> str:
    """Percent, and of how many images."""
    found = measurement.accuracy
    return f"{100 * found.value:.2f} % of {found.n}" if found else "not measured"


def latency(found: Latency | None, part: str) -> float:
    """Milliseconds."""
    return float(getattr(found, part)) if found else float("nan")


def main() -> int:
    """Do it all; 0 where the job succeeded and kept every promise."""
    started = time.monotonic()
    # Asked to stop, it leaves through its contexts, which stop what they have started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    train, evaluation = make_data()
    weights, seen = train_network(train, evaluation)
    console.print(f"it reads {100 * seen:.2f} % of the digits that it has not seen")
    job = compress(weights, train, evaluation)
    if job.state is not JobState.SUCCEEDED or job.report is None:
        console.print(f"[red]the job {job.state}[/]: {job.error.detail if job.error else ''}")
        return 1
    show(job, job.report)
    console.print(f"done in {time.monotonic() - started:.0f} s")
    return 0 if job.outcome == "met" else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
