"""Whatever a runner does, the supervisor survives, the job ends by name, and no process is left."""

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contract.artifact import ArtifactFormat
from contract.job import JobState
from storage.logs import LOG_CAP_BYTES
from storage.values import Claim
from tests.deadline import until
from tests.faults.bench import TENANT, WEIGHTS, Bench, relatives
from tests.faults.conftest import settings_at
from worker import sandbox


@pytest.fixture
def adopting() -> Iterator[None]:
    """This process takes in orphans for a while, as a worker's slots do."""
    sandbox.adopt_orphans()
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def test_a_job_gets_its_inputs_and_delivers_its_files(bench: Bench) -> None:
    # Given a job / When it is carried out
    job = bench.run("finish")
    # Then it has succeeded, and what it read has come through
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    assert bench.artifact(job) == WEIGHTS
    assert [artifact.filename for artifact in job.artifacts if artifact.partial] == []


def test_the_log_is_an_artifact(bench: Bench) -> None:
    # Given / When
    job = bench.run("finish")
    # Then the artifact is what can be read of the log
    assert bench.artifact(job, "job.log").decode() == bench.log(job)
    assert "runner " in bench.log(job)


def test_the_log_names_no_folder_of_this_machine(bench: Bench, tmp_path: Path) -> None:
    # Given / When
    log = bench.log(bench.run("print_paths"))
    # Then
    assert str(tmp_path) not in log
    assert str(Path(psutil.__file__).parents[1]) not in log
    assert "job/tmp environment/lib python/os.py" in log


def test_what_fails_by_name_ends_by_name_and_keeps_its_files_as_partial(bench: Bench) -> None:
    # Given / When
    job = bench.run("fail")
    # Then
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "unfit_model"
    assert bench.artifact(job) == b"half"
    assert {artifact.format for artifact in job.artifacts if artifact.partial} == {
        ArtifactFormat.MODEL_JSON,
        ArtifactFormat.LOG,
    }


@pytest.mark.parametrize(("act", "cause"), [("kill_itself", "SIGKILL"), ("segfault", "SIGSEGV"), ("leave", "code 3")])
def test_a_crash_is_forgiven_once(bench: Bench, act: str, cause: str) -> None:
    # Given a runner that dies without a word / When it has died
    job = bench.run(act)
    # Then the job waits to be tried again
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    # When it dies again / Then the job has failed, and says of what
    bench.supervisor.carry_out(bench.claim())
    job = bench.job(job)
    assert (job.state, job.attempt) == (JobState.FAILED, 2)
    assert job.error is not None
    assert job.error.code == "job_crashed"
    assert cause in job.error.detail


def test_a_crash_that_was_chance_costs_nothing_but_time(bench: Bench, tmp_path: Path) -> None:
    # Given a runner that dies at its first attempt
    job = bench.run("kill_itself_once", argument=str(tmp_path / "memory"))
    assert job.state is JobState.QUEUED
    # When it is tried again / Then
    bench.supervisor.carry_out(bench.claim())
    assert bench.job(job).state is JobState.SUCCEEDED


@pytest.mark.parametrize("act", ["babble", "never_end_a_line", "link", "falsify"])
def test_a_runner_that_lies_is_not_believed(bench: Bench, act: str) -> None:
    # Given / When
    job = bench.run(act)
    # Then nothing of it is published
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "worker_error"
    assert [artifact.filename for artifact in job.artifacts] == ["job.log"]


def test_a_flood_of_prints_is_cut_and_harms_nothing(bench: Bench) -> None:
    # Given a runner that prints 64 MiB / When
    job = bench.run("print_much")
    # Then
    assert job.state is JobState.SUCCEEDED
    assert LOG_CAP_BYTES < len(bench.artifact(job, "job.log")) < LOG_CAP_BYTES + 200


def test_a_job_ends_at_its_deadline(bench: Bench) -> None:
    # Given a runner that never ends / When
    job = bench.run("spin", max_run_seconds=1)
    # Then
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "deadline_exceeded"


def test_a_job_that_swells_is_stopped_with_its_children(bench: Bench) -> None:
    # Given / When a child of the runner takes more than the job may
    job = bench.run("swell", max_memory_bytes=256 * 1024**2)
    # Then
    assert job.error is not None
    assert job.error.code == "memory_limit"
    assert relatives(bench) == []


@pytest.mark.parametrize(
    ("act", "limits", "code"),
    [
        ("kill_itself", {}, "job_crashed"),
        ("spin", {"max_run_seconds": 1}, "deadline_exceeded"),
        ("swell", {"max_memory_bytes": 256 * 1024**2}, "memory_limit"),
    ],
)
def test_what_there_was_can_be_had_however_the_runner_ended(
    bench: Bench, act: str, limits: dict[str, int], code: str
) -> None:
    # Given a runner that has told of a file, and ends without another word / When no attempt is left
    job = bench.run("leave_half", argument=act, **limits)
    if job.state is JobState.QUEUED:
        bench.supervisor.carry_out(bench.claim())
        job = bench.job(job)
    # Then the file can be had, marked
    assert job.error is not None
    assert job.error.code == code
    assert bench.artifact(job) == b"half"
    assert all(artifact.partial for artifact in job.artifacts)


@pytest.mark.usefixtures("adopting")
def test_a_cancel_leaves_no_process(bench: Bench) -> None:
    # Given a job whose runner has children, one of which has left its session and its parent
    job = bench.submit("beget")
    supervising = threading.Thread(target=bench.supervisor.carry_out, args=(bench.claim(),))
    supervising.start()
    until(lambda: len(relatives(bench)) == 3)
    family = relatives(bench)
    # When it is canceled
    bench.jobs.request_cancel(TENANT, job.id)
    supervising.join(30)
    # Then
    assert bench.job(job).state is JobState.CANCELED
    assert [process for process in family if process.is_running()] == []


def test_nothing_of_a_job_stays_in_the_scratch_folder(bench: Bench) -> None:
    # Given / When
    bench.run("finish")
    # Then
    assert list((bench.settings.scratch / "jobs").iterdir()) == []


def test_no_job_is_started_more_often_than_it_may_be(tmp_path: Path) -> None:
    # Given a job whose worker is lost each time
    bench = Bench(settings_at(tmp_path, lease_seconds=0.2))
    job = bench.submit("finish")
    for _ in range(bench.settings.max_attempts):
        bench.claim()
        until(lambda: bench.upkeep.reap() == 1)
    # When all attempts are used up / Then it has failed by name, and nobody gets it any more
    failed = bench.job(job)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "worker_lost"
    assert bench.claims.claim(bench.card) is None
    bench.close()


def test_a_claim_whose_lease_runs_out_kills_its_runner(tmp_path: Path) -> None:
    # Given a supervisor that renews its lease too late
    bench = Bench(settings_at(tmp_path, lease_seconds=1, heartbeat_seconds=60))
    job = bench.submit("sleep")
    # When it carries out a job / Then it ends it before another worker may begin, and writes nothing
    bench.supervisor.carry_out(bench.claim())
    assert bench.job(job).state is JobState.RUNNING
    assert relatives(bench) == []
    bench.close()


def test_the_runner_gets_no_credentials_and_has_limits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given credentials in the worker's environment
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    # When a job tells its environment
    told = bench.artifact(bench.run("tell_environment")).decode()
    # Then they are not in it, nor is anything of this house's own settings
    assert "secret" not in told
    assert "MODELPRESS" not in told
    assert "NoNewPrivs:\t1" in told
    assert "HF_HUB_OFFLINE=1" in told
    assert "OMP_NUM_THREADS=1" in told


def acting(bench: Bench, claim: Claim) -> bool:
    progress = bench.jobs.get(TENANT, claim.job_id).progress
    return progress is not None and progress.phase == "acting"


def damage(bench: Bench, sha256: str) -> None:
    """Change what is stored behind the service's back."""
    path = bench.blobs.local_path(TENANT, sha256)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(b"other bytes")


def test_an_input_that_is_no_longer_what_was_uploaded_is_not_used(bench: Bench) -> None:
    # Given a model whose bytes have changed where they are stored
    model = bench.model()
    assert model.sha256 is not None
    damage(bench, model.sha256)
    # When a job needs it
    job = bench.submit("finish", model=model)
    bench.supervisor.carry_out(bench.claim())
    # Then it fails by name
    error = bench.job(job).error
    assert error is not None
    assert error.code == "input_corrupt"


def carry_out_until_it_acts_and_stop(bench: Bench, claim: Claim) -> None:
    """Carry a job out, and have the worker shut down once its runner is at work."""
    bench.stop[0] = False
    supervising = threading.Thread(target=bench.supervisor.carry_out, args=(claim,))
    supervising.start()
    until(lambda: acting(bench, claim))
    bench.stop[0] = True
    supervising.join(30)


def test_a_damaged_checkpoint_costs_the_work_behind_it_and_not_the_job(bench: Bench) -> None:
    # Given a job that was handed back with a checkpoint, whose bytes have changed since
    job = bench.submit("count_until_stopped")
    carry_out_until_it_acts_and_stop(bench, bench.claim())
    claim = bench.claim()
    assert claim.resume is not None
    damage(bench, claim.resume.sha256)
    # When it is taken up again / Then it begins anew, and acts until it is stopped
    carry_out_until_it_acts_and_stop(bench, claim)
    assert bench.job(job).state is JobState.QUEUED
