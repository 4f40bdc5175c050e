"""What the keeper puts right."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from contract.failures import NotFound
from contract.job import JobState, StateReason, StepState
from storage.database import Database
from storage.upkeep import Upkeep
from storage.values import Claim, JobEnd
from tests.integration.storage.house import TENANT, House, card, progress


def _lose(house: House, claim: Claim) -> None:
    house.pass_time(house.terms.lease_seconds + 1)
    assert house.upkeep.reap() == 1


def test_a_lost_job_is_queued_again_after_a_growing_wait(house: House) -> None:
    # Given a running job with progress whose worker is lost
    claim = house.running()
    house.claims.step_started(claim, 0)
    house.claims.report_progress(claim, progress(0.5))
    house.outbox.mark_sent(house.outbox.due())
    _lose(house, claim)

    # Then it is queued, says why, begins anew, and nobody takes it before the wait is over
    house.workers.announce(card())
    job = house.job(claim)
    assert (job.state, job.state_reason, job.attempt) == (JobState.QUEUED, StateReason.WORKER_LOST, 1)
    assert (job.progress, job.steps[0].state) == (None, StepState.PENDING)
    assert house.claims.claim(card()) is None
    assert house.outbox.due() == ()
    house.pass_time(5)
    assert len(house.outbox.due()) == 1
    second = house.claim()

    # When it is lost again, then the wait is twice as long
    _lose(house, second)
    house.pass_time(9)
    assert house.claims.claim(card()) is None
    house.pass_time(1)
    assert house.claim().attempt == 3


def test_a_job_is_lost_three_times_and_no_more(house: House) -> None:
    # Given a job that takes its worker with it, each time
    job = house.submit()
    for attempt in (1, 2, 3):
        claim = house.claim()
        assert claim.attempt == attempt
        _lose(house, claim)
        house.pass_time(600)

    # Then it has failed, and nobody gets it again
    ended = house.job(job)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert ended.error.code == "worker_lost"
    assert house.claims.claim(card()) is None
    assert house.told(job) == ["job.created", *(["job.started", "job.requeued"] * 2), "job.started", "job.failed"]


def test_a_lost_job_that_was_to_be_cancelled_has_ended(house: House) -> None:
    # Given a running job that is to be cancelled, when its worker is lost, then it is canceled
    claim = house.running()
    house.jobs.request_cancel(TENANT, claim.job_id)
    _lose(house, claim)
    assert house.job(claim).state is JobState.CANCELED


class SlowDatabase(Database):
    """A database to which others come between a look at it and the transaction that follows."""

    def __init__(self, database: Database, meanwhile: Callable[[], object]) -> None:
        self._database = database
        self._meanwhile = meanwhile

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As the other does."""
        with self._database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Late."""
        self._meanwhile()
        with self._database.write() as connection:
            yield connection


@pytest.mark.parametrize(
    ("max_attempts", "limits"), [(3, {}), (1, {}), (3, {"max_run_seconds": 30})], ids=["queued", "lost", "late"]
)
def test_a_cancel_that_comes_while_a_job_is_reaped_ends_it(
    house: House, max_attempts: int, limits: dict[str, Any]
) -> None:
    # Given a lost job that would be queued again, or fail
    claim = house.running(limits=limits)
    house.pass_time(house.terms.lease_seconds + 1)

    # When its client cancels it just after the keeper has looked, and before it acts
    slow = SlowDatabase(house.database, lambda: house.jobs.request_cancel(TENANT, claim.job_id))
    assert Upkeep(slow, replace(house.terms, max_attempts=max_attempts)).reap() == 1

    # Then it is canceled, as the client was told
    job = house.job(claim)
    assert (job.state, job.error) == (JobState.CANCELED, None)
    assert house.told(claim)[-1] == "job.canceled"


def test_a_lost_job_past_its_deadline_has_failed(house: House) -> None:
    # Given a running job, when its worker is lost and its time is over, then it fails for that
    claim = house.running(limits={"max_run_seconds": 30})
    _lose(house, claim)
    error = house.job(claim).error
    assert error is not None
    assert error.code == "deadline_exceeded"


def test_two_keepers_do_not_reap_twice(house: House) -> None:
    # Given a lost job, when it is reaped again at once, then only the first time counts
    claim = house.running()
    _lose(house, claim)
    assert house.upkeep.reap() == 0
    assert house.told(claim).count("job.requeued") == 1


def test_a_job_that_waits_too_long_for_its_first_start_fails(house: House) -> None:
    # Given a job that may wait for ten seconds
    job = house.submit(limits={"max_queue_seconds": 10})
    house.pass_time(9)
    assert house.upkeep.fail_overdue() == 0

    # When they are over, then it fails for that, once
    house.pass_time(1)
    assert house.upkeep.fail_overdue() == 1
    assert house.upkeep.fail_overdue() == 0
    error = house.job(job).error
    assert error is not None
    assert error.code == "queue_deadline_exceeded"


def test_time_in_the_queue_counts_only_before_the_first_start(house: House) -> None:
    # Given a job that was started in time and handed back
    claim = house.running(limits={"max_queue_seconds": 10})
    house.claims.release(claim)

    # When it waits longer than it could have waited at first, then it is still there to be claimed
    house.pass_time(60)
    assert house.upkeep.fail_overdue() == 0
    assert house.claim().job_id == claim.job_id


def test_a_queued_job_whose_deadline_passes_fails(house: House) -> None:
    # Given a job that was started once and waits again
    claim = house.running(limits={"max_run_seconds": 30})
    house.claims.release(claim)

    # When its time is over, then nobody starts it, and it fails for that
    house.pass_time(31)
    assert house.claims.claim(card()) is None
    assert house.upkeep.fail_overdue() == 1
    error = house.job(claim).error
    assert error is not None
    assert error.code == "deadline_exceeded"


def test_an_unheard_job_is_rung_for_ever_less_often(house: House) -> None:
    # Given a queued job whose ring was sent and lost
    house.submit()
    house.outbox.mark_sent(house.outbox.due())
    assert house.upkeep.sweep() == 0

    # When time passes, then it is rung for after one minute, then two later, then four later
    rung_at = []
    for minute in range(1, 9):
        house.pass_time(60)
        if house.upkeep.sweep():
            rung_at.append(minute)
    assert rung_at == [1, 3, 7]
    assert house.outbox.waiting() == 3


def test_only_what_can_be_claimed_is_rung_for_again(house: House) -> None:
    # Given a running job and one that ended
    house.running()
    house.jobs.request_cancel(TENANT, house.submit().id)

    # When an hour passes, then nobody is rung for
    house.pass_time(3600)
    assert house.upkeep.sweep() == 0


def test_ended_jobs_go_when_their_time_is_up(house: House) -> None:
    # Given jobs that ended, one of them to be kept for a minute, and one that runs
    claims = [house.running(expires_after=60), house.running()]
    for claim in claims:
        house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED))
    running = house.running(expires_after=60)

    # When the minute is over, then that one goes
    house.pass_time(59)
    assert house.upkeep.expire() == 0
    house.pass_time(1)
    assert house.upkeep.expire() == 1
    with pytest.raises(NotFound):
        house.job(claims[0])
    assert {job.id for job in house.jobs.list(TENANT).items} == {claims[1].job_id, running.job_id}
