"""Jobs, as those who ask for them see them."""

import pytest

from contract.failures import InUse, InvalidRequest, InvalidState, NotFound, NotReady
from contract.job import Job, JobState, StateReason, StepState
from storage.paging import Window
from storage.values import JobEnd, JobFilter, NewJob
from tests.integration.storage.house import DONE, TENANT, House, card, spec

FAILED = JobEnd(state=JobState.FAILED)


def _ended(house: House, state: JobState = JobState.FAILED) -> Job:
    claim = house.running()
    assert house.claims.finish(claim, JobEnd(state=state)) is state
    return house.job(claim)


def test_a_new_job_is_queued_with_all_that_was_asked(house: House) -> None:
    # Given a spec, when a job of it is added
    wanted = spec(metadata={"team": "vision"}, limits={"max_run_seconds": 7})
    job = house.jobs.add(NewJob(tenant=TENANT, spec=wanted))

    # Then it is queued with that spec, its steps pending, its first event told and one ring due
    assert job.state is JobState.QUEUED
    assert not job.done
    assert job.spec == wanted
    assert [(step.method, step.state) for step in job.steps] == [("prune_weights", StepState.PENDING)]
    assert job.attempt == 0
    assert house.jobs.get(TENANT, job.id) == job
    assert house.told(job) == ["job.created"]
    assert [ring.device for ring in house.outbox.due()] == ["cpu"]


def test_another_tenants_job_is_not_there(house: House) -> None:
    # Given a job of ours that ended
    job = _ended(house)

    # When another tenant does anything with it, then it is not found
    for act in (house.jobs.get, house.jobs.request_cancel, house.jobs.retry, house.jobs.delete):
        with pytest.raises(NotFound):
            act("theirs", job.id)
    with pytest.raises(NotFound):
        house.events.after("theirs", job.id)
    with pytest.raises(NotFound):
        house.logs.read("theirs", job.id)
    assert house.jobs.list("theirs").items == ()


def test_a_list_is_newest_first_and_in_pages(house: House) -> None:
    # Given five jobs
    made = [house.submit().id for _ in range(5)]

    # When they are listed two by two
    seen, cursor = [], None
    for _ in range(3):
        page = house.jobs.list(TENANT, Window(limit=2, after=cursor))
        seen += [job.id for job in page.items]
        cursor = page.next_cursor

    # Then all come once, the newest first, and the last page says that it is
    assert seen == made[::-1]
    assert cursor is None
    assert not page.has_more


def test_a_page_that_is_just_full_is_the_last(house: House) -> None:
    # Given two jobs, when two are asked for, then there is no next page
    _ = [house.submit() for _ in range(2)]
    assert not house.jobs.list(TENANT, Window(limit=2)).has_more


@pytest.mark.parametrize("cursor", ["!", "é", "AAAA"])
def test_a_cursor_that_is_none_of_ours_is_refused_or_finds_nothing(house: House, cursor: str) -> None:
    # Given a job, when a list is asked for after an invented cursor
    house.submit()
    try:
        page = house.jobs.list(TENANT, Window(after=cursor))
    except InvalidRequest:
        return

    # Then it is refused, or nothing lies behind it
    assert page.items == ()


def test_lists_can_be_narrowed(house: House) -> None:
    # Given jobs that differ
    model = house.model()
    plain = house.submit(metadata={"team": "vision", "run": "1"})
    tuned = house.submit(metadata={"team": "vision", "run": "2"}, steps=[], model=model.id)
    cancelled = house.jobs.request_cancel(TENANT, house.submit(metadata={"team": "speech"}).id)

    def found(**only: object) -> set[str]:
        return {job.id for job in house.jobs.list(TENANT, only=JobFilter(**only)).items}  # type: ignore[arg-type]

    # When one asks for some, then those come
    assert found(metadata={"team": "vision"}) == {plain.id, tuned.id}
    assert found(metadata={"team": "vision", "run": "2"}) == {tuned.id}
    assert found(state=JobState.CANCELED) == {cancelled.id}
    assert found(model=model.id) == {tuned.id}
    assert found(method="prune_weights") == {plain.id, cancelled.id}
    assert found(method="prune_weights", metadata={"team": "vision"}) == {plain.id}
    assert found(metadata={"team": "nobody"}) == set()


def test_the_queue_goes_by_priority_and_then_by_age(house: House) -> None:
    # Given jobs of each priority
    low, normal, later, high = (house.submit(priority=p) for p in ("low", "normal", "normal", "high"))

    # When they are looked at, then each knows how many go before it
    assert [house.job(job).queue.position for job in (high, normal, later, low)] == [0, 1, 2, 3]
    assert {job.id: job.queue.position for job in house.jobs.list(TENANT).items} == {
        high.id: 0,
        normal.id: 1,
        later.id: 2,
        low.id: 3,
    }

    # And workers take them in that order
    assert [house.claim().job_id for _ in range(4)] == [high.id, normal.id, later.id, low.id]
    assert house.job(high).queue.position is None


def test_a_job_says_why_it_waits(house: House) -> None:
    # Given a queued job and no worker
    job = house.submit()
    assert house.job(job).state_reason is StateReason.NO_WORKER

    # When one comes that cannot write ONNX, then nothing changes
    house.workers.announce(card("other", outputs=("safetensors",)))
    assert house.job(job).state_reason is StateReason.NO_WORKER

    # When one comes that can, then the job just waits for its turn
    house.workers.announce(card("able"))
    assert house.job(job).state_reason is StateReason.WAITING

    # When all have been silent for long, then there is none again
    house.pass_time(house.terms.live_seconds + 1)
    assert house.job(job).state_reason is StateReason.NO_WORKER


def test_cancelling_a_queued_job_ends_it_at_once(house: House) -> None:
    # Given a queued job, when it is cancelled
    job = house.jobs.request_cancel(TENANT, house.submit().id)

    # Then it has ended, nobody can take it, and cancelling again changes nothing
    assert job.state is JobState.CANCELED
    assert job.finished_at is not None
    assert house.claims.claim(card()) is None
    assert house.jobs.request_cancel(TENANT, job.id) == job
    assert house.told(job) == ["job.created", "job.canceled"]


def test_cancelling_a_running_job_asks_its_worker(house: House) -> None:
    # Given a running job, when it is cancelled twice
    claim = house.running()
    job = house.jobs.request_cancel(TENANT, claim.job_id)
    assert house.jobs.request_cancel(TENANT, claim.job_id) == job

    # Then it still runs, and the worker hears of it with its next heartbeat
    assert (job.state, job.state_reason) == (JobState.RUNNING, StateReason.CANCEL_REQUESTED)
    assert house.claims.heartbeat(claim).cancel_requested
    assert house.told(job) == ["job.created", "job.started", "job.cancel_requested"]


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_what_has_ended_cannot_be_cancelled(house: House, state: JobState) -> None:
    # Given a job that ended, when it is cancelled, then that is refused with its state and with those that allow it
    job = _ended(house, state)
    with pytest.raises(InvalidState) as caught:
        house.jobs.request_cancel(TENANT, job.id)
    assert caught.value.state == state
    assert caught.value.allowed == ("queued", "running", "canceled")
    assert house.job(job) == job


def test_a_retry_is_a_new_job_with_the_same_spec(house: House) -> None:
    # Given a job that failed, when it is retried
    old = _ended(house)
    new = house.jobs.retry(TENANT, old.id)

    # Then there is a second one like it that knows where it comes from
    assert new.id != old.id
    assert (new.retry_of, new.spec, new.state) == (old.id, old.spec, JobState.QUEUED)


def test_an_open_job_is_neither_retried_nor_deleted(house: House) -> None:
    # Given a queued job, when it is retried or deleted, then that is refused
    job = house.submit()
    with pytest.raises(InvalidState) as caught:
        house.jobs.retry(TENANT, job.id)
    assert caught.value.allowed == DONE
    with pytest.raises(InUse):
        house.jobs.delete(TENANT, job.id)
    assert house.job(job).state is JobState.QUEUED


def test_a_deleted_job_leaves_nothing(house: House) -> None:
    # Given a job that ended, when it is deleted
    job = _ended(house)
    house.jobs.delete(TENANT, job.id)

    # Then it is gone with its events
    with pytest.raises(NotFound):
        house.job(job)
    with pytest.raises(NotFound):
        house.events.after(TENANT, job.id)
    assert house.jobs.list(TENANT).items == ()


def test_a_job_needs_what_its_spec_names(house: House) -> None:
    # Given a model that awaits its content, and none at all
    awaiting = house.model(content=None)
    data = house.dataset()
    nowhere = "mdl_" + "0" * 26

    # When jobs name them, then they are refused with a pointer to the place, and nothing is written
    with pytest.raises(NotReady) as not_ready:
        house.submit(model=awaiting.id)
    assert [fault.pointer for fault in not_ready.value.errors] == ["/model"]
    with pytest.raises(NotFound) as not_found:
        house.submit(data={"train": data.id}, steps=[{"method": "distill", "teacher": nowhere}])
    assert [fault.pointer for fault in not_found.value.errors] == ["/steps/0/teacher"]
    assert house.jobs.list(TENANT).items == ()
    assert house.outbox.waiting() == 0


def test_another_tenants_model_cannot_be_used(house: House) -> None:
    # Given a model of ours, when another tenant's job names it, then it is not found
    model = house.model()
    with pytest.raises(NotFound):
        house.jobs.add(NewJob(tenant="theirs", spec=spec(model=model.id)))
