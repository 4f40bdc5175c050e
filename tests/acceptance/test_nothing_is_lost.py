"""A job that was accepted ends once, whatever is killed on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.job import EventKind, Job, JobState
from contract.settings import Settings
from modelpress.client import Client
from modelpress.up import Stack
from tests.acceptance.conftest import digits_zip
from tests.acceptance.models import INPUT
from tests.deadline import until
from tests.stacks import alive, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, with leases of seconds, whose processes may be killed."""
    settings = Settings(
        port=0,
        data_dir=tmp_path_factory.mktemp("stack"),
        # One thread for a job, since other tests run beside it.
        slots=2,
        lease_seconds=4,
        heartbeat_seconds=0.5,
        keeper_seconds=0.5,
        ring_again_seconds=2,
        retry_backoff_seconds=0.1,
    )
    with Stack(settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    """A client of that stack."""
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def train(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Data to learn from."""
    path = digits_zip(tmp_path_factory.mktemp("data") / "train.zip", count=256)
    return client.upload_dataset(path).id


def training(train: str, epochs: int) -> dict[str, object]:
    """A job whose time goes into training."""
    return {
        "model": {
            "architecture": {"library": "timm", "name": "test_resnet", "options": {"num_classes": 10}},
            "weights": "none",
            "preprocessing": INPUT,
        },
        "data": {"train": train},
        "steps": [{"method": "fine_tune", "epochs": epochs, "batch_size": 32}],
        "outputs": ["safetensors"],
    }


def kill(stack: Stack, command: str) -> None:
    for process in running(stack, command):
        process.kill()


def training_has_begun(client: Client, job: Job) -> bool:
    progress = client.job(job.id).progress
    return progress is not None and "epoch" in progress.phase


def test_a_job_can_be_canceled_in_the_midst(stack: Stack, client: Client, train: str) -> None:
    # Given a job that trains
    job = client.submit(training(train, epochs=10_000))
    until(lambda: training_has_begun(client, job))
    runners = running(stack, "worker.runner")
    assert runners
    # When it is canceled, twice
    client.cancel(job.id)
    client.cancel(job.id)
    # Then it ends canceled, and the process that ran it is gone, but not the one that waits in the other slot
    ended = client.wait(job.id)
    assert (ended.state, ended.error) == (JobState.CANCELED, None)
    assert sum(alive(runner) for runner in runners) == len(runners) - 1


def test_a_worker_killed_in_the_midst_costs_an_attempt_and_no_job(stack: Stack, client: Client, train: str) -> None:
    # Given a job that trains
    job = client.submit(training(train, epochs=12))
    until(lambda: training_has_begun(client, job))
    # When everything that runs it is killed
    kill(stack, "-m worker")
    # Then it succeeds all the same, once, at the second attempt
    ended = client.wait(job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert ended.attempt == 2
    kinds = [event.kind for event in client.events(job.id)]
    assert kinds.count(EventKind.SUCCEEDED) == 1


def test_a_broker_that_dies_between_post_and_start_loses_nothing(stack: Stack, client: Client, train: str) -> None:
    # Given a broker that dies as the job arrives
    kill(stack, "redis-server")
    # When the job is posted
    job = client.submit(training(train, epochs=1))
    # Then it is accepted, and runs to its end
    ended = client.wait(job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error


def test_an_api_killed_after_the_post_has_kept_the_job(stack: Stack, client: Client, train: str) -> None:
    # Given a job that was acknowledged
    job = client.submit(training(train, epochs=1))
    # When the API is killed at once
    kill(stack, "-m service")
    # Then the job is there when it is back, and ends
    ended = client.wait(job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error


def test_the_stack_leaves_nothing_behind(tmp_path: Path) -> None:
    # Given a stack that runs
    with Stack(Settings(port=0, data_dir=tmp_path)) as own, Client(own.url) as client:
        assert client.capabilities() is not None
        until(lambda: running(own, "worker.runner") != [])
        family = running(own, "")
    # When it has been stopped / Then no process of it is left
    assert [process for process in family if alive(process)] == []
