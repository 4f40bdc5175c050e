"""Whatever happens to a worker, each job ends once, and nothing is left running."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from contract.job import Event, EventKind, Job, JobState, StateReason
from storage.events import Events
from storage.outbox import Outbox
from tests.deadline import until
from tests.faults.bench import TENANT, Bench
from tests.faults.conftest import settings_at
from tests.faults.house import House, runners_of, signal_tree, slot_of, tree
from tests.servers import Redis
from tests.stacks import alive


@pytest.fixture
def house(tmp_path: Path, redis: Redis, database_url: str) -> Iterator[House]:
    """A house with a broker, on both databases, and no worker yet."""
    settings = settings_at(tmp_path, redis_url=redis.url, database_url=database_url, warm_spare=True)
    bench = Bench(settings)
    house = House(bench)
    yield house
    house.close()
    bench.close()


@pytest.fixture
def sqlite_house(tmp_path: Path, redis: Redis, sqlite_url: str) -> Iterator[House]:
    """The same on SQLite alone, where the database makes no difference."""
    bench = Bench(settings_at(tmp_path, redis_url=redis.url, database_url=sqlite_url, warm_spare=True))
    house = House(bench)
    yield house
    house.close()
    bench.close()


def in_state(bench: Bench, job: Job, state: JobState) -> Callable[[], bool]:
    return lambda: bench.job(job).state is state


def acting(bench: Bench, job: Job) -> Callable[[], bool]:
    """Whether the runner has said that it acts."""

    def holds() -> bool:
        progress = bench.job(job).progress
        return progress is not None and progress.phase == "acting"

    return holds


def told(bench: Bench, job: Job) -> list[Event]:
    return list(Events(bench.database).after(TENANT, job.id))


def kinds(bench: Bench, job: Job) -> list[EventKind]:
    return [event.kind for event in told(bench, job)]


def handed_back(bench: Bench, job: Job) -> bool:
    last, waiting = told(bench, job)[-1], bench.job(job)
    assert last.kind is EventKind.REQUEUED
    return (waiting.attempt, last.data["reason"]) == (0, StateReason.WORKER_SHUT_DOWN)


def gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not any(alive(process) for process in processes)


def test_a_job_rung_for_fifty_times_is_claimed_once(house: House) -> None:
    # Given two workers and one job
    house.start_worker()
    house.start_worker()
    job = house.bench.submit("finish")
    # When the doorbell rings far too often
    house.ring(times=50)
    # Then it runs once
    until(in_state(house.bench, job, JobState.SUCCEEDED))
    assert kinds(house.bench, job).count(EventKind.STARTED) == 1
    # And the workers still hear
    another = house.bench.submit("finish")
    house.ring()
    until(in_state(house.bench, another, JobState.SUCCEEDED))


def test_one_ring_is_enough_for_all_that_wait(sqlite_house: House) -> None:
    # Given two jobs, and a broker that has lost the ring for one of them
    sqlite_house.start_worker()
    jobs = [sqlite_house.bench.submit("finish") for _ in range(2)]
    # When the doorbell rings once
    sqlite_house.ring()
    # Then both are done
    for job in jobs:
        until(in_state(sqlite_house.bench, job, JobState.SUCCEEDED), seconds=60)


def test_a_worker_that_starts_hears_of_what_waits(sqlite_house: House) -> None:
    # Given a job whose ring was lost
    bench, outbox = sqlite_house.bench, Outbox(sqlite_house.bench.database)
    bench.submit("finish")
    outbox.mark_sent(outbox.due())
    # When a worker starts / Then its queues are to be rung
    sqlite_house.start_worker()
    assert {ring.device for ring in outbox.due()} == set(bench.card.devices)


def test_a_cancel_ends_a_running_job_and_all_its_processes(house: House) -> None:
    # Given a job whose runner has begotten processes outside of its session
    worker = house.start_worker()
    job = house.bench.submit("beget")
    house.ring()
    until(acting(house.bench, job))
    family = [process for runner in runners_of(worker) for process in tree(runner)]
    # When it is canceled
    house.bench.jobs.request_cancel(TENANT, job.id)
    # Then it ends, and so do they
    until(in_state(house.bench, job, JobState.CANCELED))
    until(gone(family))
    assert "job.log" in [artifact.filename for artifact in house.bench.job(job).artifacts]


def test_a_worker_killed_in_the_midst_costs_one_attempt(sqlite_house: House) -> None:
    # Given a running job
    worker = sqlite_house.start_worker()
    job = sqlite_house.bench.submit("sleep")
    sqlite_house.ring()
    until(acting(sqlite_house.bench, job))
    processes = tree(worker)
    # When the worker's main process is killed
    worker.kill()
    # Then nothing of it is left
    until(gone(processes))
    # And once the lease is over, the job waits for another worker
    until(lambda: sqlite_house.bench.upkeep.reap() == 1)
    waiting = sqlite_house.bench.job(job)
    assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 1)
    assert told(sqlite_house.bench, job)[-1].data["reason"] == StateReason.WORKER_LOST


def test_a_slot_that_is_killed_leaves_no_orphan_and_is_replaced(sqlite_house: House) -> None:
    # Given a slot that supervises a runner with descendants outside of its session
    worker = sqlite_house.start_worker()
    job = sqlite_house.bench.submit("beget")
    sqlite_house.ring()
    until(acting(sqlite_house.bench, job))
    slot = slot_of(worker)
    processes = tree(slot)
    # When the slot is killed
    slot.kill()
    # Then its runner dies with it, and the main process ends the rest
    until(gone(processes))
    # And a new slot takes the next job
    another = sqlite_house.bench.submit("finish")
    sqlite_house.ring()
    until(in_state(sqlite_house.bench, another, JobState.SUCCEEDED))


def test_a_worker_that_was_paused_beyond_its_lease_publishes_nothing(house: House) -> None:
    # Given a running job, and a worker that is stopped so long that the lease runs out
    worker = house.start_worker()
    job = house.bench.submit("sleep")
    house.ring()
    until(acting(house.bench, job))
    runner = runners_of(worker)[0]
    # Not within a write of its own, which would hold SQLite's lock for as long.
    with house.bench.database.write():
        signal_tree(worker, signal.SIGSTOP)
    until(lambda: house.bench.upkeep.reap() == 1)
    # When another attempt has the job, and the first goes on
    second = house.bench.claim()
    before = told(house.bench, job)
    signal_tree(worker, signal.SIGCONT)
    # Then the first kills its runner and changes nothing
    until(gone([runner]))
    assert house.bench.claims.heartbeat(second).lost is False
    assert told(house.bench, job) == before


def test_sigterm_hands_the_job_back_and_the_next_worker_goes_on_from_its_checkpoint(house: House) -> None:
    # Given a running job
    worker = house.start_worker()
    job = house.bench.submit("count_until_stopped")
    house.ring()
    until(acting(house.bench, job))
    processes = tree(worker)
    # When the worker is told to shut down
    assert house.stop(worker) == 0
    # Then the job waits, and the attempt is not counted
    assert handed_back(house.bench, job)
    until(gone(processes))
    # And the next worker finds what the first had left
    house.start_worker()
    house.ring()
    until(in_state(house.bench, job, JobState.SUCCEEDED))
    assert house.bench.artifact(job) == b"seven"


def test_a_worker_that_shuts_down_takes_no_next_job(sqlite_house: House) -> None:
    # Given a running job, and one that waits behind it
    worker = sqlite_house.start_worker()
    job, next_job = (sqlite_house.bench.submit("count_until_stopped") for _ in range(2))
    sqlite_house.ring()
    until(acting(sqlite_house.bench, job))
    # When the worker is told to shut down
    assert sqlite_house.stop(worker) == 0
    # Then the one is handed back, and the other was never begun
    assert handed_back(sqlite_house.bench, job)
    assert EventKind.STARTED not in kinds(sqlite_house.bench, next_job)


def test_a_runner_that_does_not_listen_is_killed_when_the_worker_shuts_down(sqlite_house: House) -> None:
    # Given a runner that never looks whether it shall stop
    worker = sqlite_house.start_worker()
    job = sqlite_house.bench.submit("sleep")
    sqlite_house.ring()
    until(acting(sqlite_house.bench, job))
    # When the worker is told to shut down / Then it does, and the job is handed back all the same
    assert sqlite_house.stop(worker) == 0
    assert handed_back(sqlite_house.bench, job)


def test_sigterm_to_a_slot_alone_hands_its_job_back(sqlite_house: House) -> None:
    # Given a running job
    worker = sqlite_house.start_worker()
    job = sqlite_house.bench.submit("count_until_stopped")
    sqlite_house.ring()
    until(acting(sqlite_house.bench, job))
    # When its slot is told to end, as a service manager tells every process of a group
    slot_of(worker).terminate()
    # Then the job waits, and the attempt is not counted
    until(in_state(sqlite_house.bench, job, JobState.QUEUED))
    assert handed_back(sqlite_house.bench, job)


def test_a_worker_hears_a_broker_that_was_killed_and_came_back_empty(sqlite_house: House, redis: Redis) -> None:
    # Given a worker whose broker dies with a ring in it
    worker = sqlite_house.start_worker()
    redis.kill()
    job = sqlite_house.bench.submit("finish")
    redis.start()
    # When the doorbell rings again
    sqlite_house.ring()
    # Then the same worker hears it
    until(in_state(sqlite_house.bench, job, JobState.SUCCEEDED))
    assert worker.is_running()


def test_the_spare_is_used_and_replaced(sqlite_house: House) -> None:
    # Given a worker with a spare
    worker = sqlite_house.start_worker()
    until(lambda: len(runners_of(worker)) == 1)
    spare = runners_of(worker)[0]
    # When a job comes
    job = sqlite_house.bench.submit("finish")
    sqlite_house.ring()
    until(in_state(sqlite_house.bench, job, JobState.SUCCEEDED))
    # Then the spare has done it, and another waits
    assert f"runner {spare.pid}\n" in sqlite_house.bench.log(job)
    until(lambda: [runner.pid for runner in runners_of(worker)] not in ([], [spare.pid]))


def test_a_spare_that_was_killed_costs_nothing_but_time(sqlite_house: House) -> None:
    # Given a worker whose spare has died
    worker = sqlite_house.start_worker()
    until(lambda: len(runners_of(worker)) == 1)
    runners_of(worker)[0].kill()
    # When a job comes / Then it runs all the same
    job = sqlite_house.bench.submit("finish")
    sqlite_house.ring()
    until(in_state(sqlite_house.bench, job, JobState.SUCCEEDED))
    assert sqlite_house.bench.job(job).attempt == 1


def test_a_worker_leaves_nothing_in_the_temporary_folder_however_it_ends(
    sqlite_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two workers that share a temporary folder
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    stopped, killed = sqlite_house.start_worker(), sqlite_house.start_worker()
    # When one is stopped and the other one killed
    assert sqlite_house.stop(stopped) == 0
    signal_tree(killed, signal.SIGKILL)
    # Then nothing of them lies there, and only what was killed has left a folder that is swept
    assert list(shared.iterdir()) == []
    assert len(list((sqlite_house.bench.settings.scratch / "workers").iterdir())) == 1
