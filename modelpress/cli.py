"""The `modelpress` command."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from contract.failures import Failure
from contract.job import Job, JobState
from contract.settings import Settings
from modelpress.client import Client, Unreachable
from modelpress.up import up

console = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 well, 1 not, 2 wrongly called."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "up":
        return up(Settings())
    try:
        with Client(chosen.url, api_key=chosen.api_key) as client:
            return _COMMANDS[chosen.command](client, chosen)
    except Failure as failure:
        return _complain(failure)
    except (Unreachable, OSError, json.JSONDecodeError) as error:
        console.print(f"[red]{error}[/]")
        return 1


def _complain(failure: Failure) -> int:
    console.print(f"[red]{failure.code}[/] {failure.detail}")
    for fault in failure.errors:
        console.print(f"  {fault.pointer}: {fault.detail}")
    if failure.hint:
        console.print(f"[dim]{failure.hint}[/]")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelpress", description="Make neural networks smaller and faster, proven.")
    parser.add_argument("--url", default=os.environ.get("MODELPRESS_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--api-key", default=os.environ.get("MODELPRESS_API_KEY"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run the whole service in the foreground")
    model = commands.add_parser("upload-model", help="send weights; prints the model's id")
    model.add_argument("file", type=Path)
    model.add_argument("--architecture", required=True, help="such as resnet18, or timm:resnet50")
    model.add_argument("--option", action="append", default=[], metavar="NAME=JSON", help="such as num_classes=10")
    model.add_argument("--size", type=int, metavar="PIXELS", help="side of the input, if not the usual one")
    dataset = commands.add_parser("upload-dataset", help="send a zip of class folders or an npz; prints its id")
    dataset.add_argument("file", type=Path)
    submit = commands.add_parser("submit", help="post a job spec from a JSON file; prints the job's id")
    submit.add_argument("spec", type=Path)
    for name, help in (("wait", "follow a job to its end"), ("cancel", "stop a job"), ("log", "print a job's log")):
        commands.add_parser(name, help=help).add_argument("job")
    download = commands.add_parser("download", help="fetch every file of a job")
    download.add_argument("job")
    download.add_argument("folder", type=Path)
    commands.add_parser("jobs", help="list the newest jobs")
    return parser


def _upload_model(client: Client, chosen: argparse.Namespace) -> int:
    library, _, name = chosen.architecture.rpartition(":")
    options = {key: json.loads(value) for key, _, value in (one.partition("=") for one in chosen.option)}
    architecture = {"library": library or "torchvision", "name": name, "options": options}
    preprocessing = {"size": [chosen.size, chosen.size]} if chosen.size else {}
    model = client.upload_model(chosen.file, architecture=architecture, preprocessing=preprocessing)
    console.print(model.id)
    return 0


def _upload_dataset(client: Client, chosen: argparse.Namespace) -> int:
    console.print(client.upload_dataset(chosen.file).id)
    return 0


def _submit(client: Client, chosen: argparse.Namespace) -> int:
    console.print(client.submit(json.loads(chosen.spec.read_text())).id)
    return 0


def _wait(client: Client, chosen: argparse.Namespace) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("queued", total=1.0)

        def watch(job: Job) -> None:
            phase = job.progress.phase if job.progress else job.state
            progress.update(task, completed=job.progress.fraction if job.progress else 0, description=phase)

        job = client.wait(chosen.job, watch=watch)
    console.print(f"{job.state}{f', constraints {job.outcome}' if job.outcome else ''}")
    if job.error is not None:
        console.print(f"{job.error.code}: {job.error.detail}")
    return 0 if job.state is JobState.SUCCEEDED and job.outcome != "unmet" else 1


def _cancel(client: Client, chosen: argparse.Namespace) -> int:
    console.print(client.cancel(chosen.job).state)
    return 0


def _log(client: Client, chosen: argparse.Namespace) -> int:
    sys.stdout.write(client.log(chosen.job))
    return 0


def _download(client: Client, chosen: argparse.Namespace) -> int:
    for path in client.download(chosen.job, chosen.folder):
        console.print(str(path))
    return 0


def _jobs(client: Client, chosen: argparse.Namespace) -> int:
    del chosen
    table = Table("id", "state", "steps", "made", box=None)
    for job in client.jobs():
        steps = " -> ".join(step.method for step in job.steps)
        table.add_row(job.id, job.state, steps, f"{job.created_at:%Y-%m-%d %H:%M}")
    console.print(table)
    return 0


_COMMANDS = {
    "upload-model": _upload_model,
    "upload-dataset": _upload_dataset,
    "submit": _submit,
    "wait": _wait,
    "cancel": _cancel,
    "log": _log,
    "download": _download,
    "jobs": _jobs,
}
