"""The real runner under the real supervisor: a small network, trained, stopped in the midst, resumed and proven."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.dataset import DatasetCreation, DatasetFormat
from contract.job import Job, JobState
from contract.model import ModelCreation
from contract.spec import JobSpec
from storage.catalogue import Datasets
from storage.values import Blob, NewJob
from tests.deadline import until
from tests.faults.bench import TENANT, Bench
from tests.faults.conftest import settings_at
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, trained, write_data, write_weights
from worker.process import RUNNER


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose runners load torch and compress."""
    bench = Bench(
        settings_at(tmp_path / "data", warm_spare=True, release_seconds=60, lease_seconds=60, slots=2), RUNNER
    )
    yield bench
    bench.close()


def kept(bench: Bench, path: Path) -> Blob:
    return bench.blobs.add_file(TENANT, path)


def submit(bench: Bench, folder: Path) -> Job:
    """A job that trains for a while, over uploads of its own."""
    creation = ModelCreation(architecture=NETWORK)
    model = bench.models.add(TENANT, creation, preprocessing=PREPROCESSING)
    bench.models.set_content(TENANT, model.id, kept(bench, write_weights(trained(), folder / "weights.safetensors")))
    datasets = Datasets(bench.database)
    train = datasets.add(TENANT, DatasetCreation(format=DatasetFormat.NPZ))
    datasets.set_content(TENANT, train.id, kept(bench, write_data(folder / "train.npz", count=240, seed=0)))
    spec = {
        "model": model.id,
        "data": {"train": train.id},
        "steps": [{"method": "prune_weights", "amount": 0.5}, {"method": "fine_tune", "epochs": 10}],
        "outputs": ["safetensors"],
    }
    return bench.jobs.add(NewJob(tenant=TENANT, spec=JobSpec.model_validate(spec)))


def trains(bench: Bench, job: Job) -> bool:
    progress = bench.job(job).progress
    return progress is not None and "epoch" in progress.phase


@pytest.mark.slow
def test_a_job_that_is_stopped_in_its_training_is_resumed_and_proven(bench: Bench, tmp_path: Path) -> None:
    # Given a job that trains
    job = submit(bench, tmp_path)
    supervising = threading.Thread(target=bench.supervisor.carry_out, args=(bench.claim(),))
    supervising.start()
    until(lambda: trains(bench, job))
    # When its worker shuts down
    bench.stop[0] = True
    supervising.join(120)
    # Then the job waits, with the pruned network and some epochs behind it
    assert bench.job(job).state is JobState.QUEUED
    bench.stop[0] = False
    claim = bench.claim()
    assert claim.resume is not None
    assert claim.resume.position["step_index"] == 1
    assert claim.resume.position["epochs_done"] in range(1, 10)
    # When it is taken up again
    bench.supervisor.carry_out(claim)
    # Then it goes on from there and delivers
    ended = bench.job(job)
    assert (ended.state, ended.error, ended.attempt) == (JobState.SUCCEEDED, None, 1)
    assert {"model.safetensors", "model.json", "report.json", "report.html", "job.log"} == {
        artifact.filename for artifact in ended.artifacts
    }
    # And nothing that is delivered tells where it was made
    for artifact in ended.artifacts:
        assert str(tmp_path).encode() not in bench.artifact(job, artifact.filename)
