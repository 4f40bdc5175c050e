"""Jobs, as the workers see them."""

import pytest

from contract.artifact import ArtifactFile, ArtifactFormat
from contract.failures import JobCrashed, SpecOutdated
from contract.job import JobResult, JobState, StateReason, StepState
from contract.methods import Role
from contract.report import Notice
from storage.values import Beat, Claim, JobEnd
from tests.integration.storage.house import DONE, REPORT, STEP_REPORT, TENANT, House, card, progress

RESULT = JobResult(report=REPORT, outcome="met", warnings=(Notice(code="masked_only", detail="Zeros only."),))


def _file(house: House, content: bytes = b"onnx", filename: str = "model.onnx") -> ArtifactFile:
    blob = house.keep(content)
    return ArtifactFile(
        filename=filename,
        format=ArtifactFormat.ONNX,
        media_type="application/octet-stream",
        size_bytes=blob.size_bytes,
        sha256=blob.sha256,
    )


def test_a_claim_brings_all_that_the_job_reads(house: House) -> None:
    # Given a job with a model, data and a teacher
    model, teacher, data = house.model(), house.model(b"teacher"), house.dataset()
    job = house.submit(
        model=model.id,
        data={"train": data.id, "evaluation": data.id},
        steps=[{"method": "distill", "teacher": teacher.id}],
        limits={"max_run_seconds": 100},
    )

    # When a worker claims it
    claim = house.claim()

    # Then it has them at hand, with a fence, an attempt and a deadline
    assert (claim.job_id, claim.tenant, claim.spec) == (job.id, TENANT, job.spec)
    assert claim.model == model
    assert claim.datasets == {Role.TRAIN: data, Role.EVALUATION: data}
    assert claim.others == {teacher.id: teacher}
    assert (claim.fence, claim.attempt, claim.resume) == (1, 1, None)
    assert 99 < claim.seconds_left <= 100
    running = house.job(job)
    assert (running.state, running.attempt) == (JobState.RUNNING, 1)
    assert running.started_at is not None
    assert (claim.deadline - running.started_at).total_seconds() == pytest.approx(100, abs=0.1)


def test_a_worker_takes_only_what_it_can_run(house: House) -> None:
    # Given jobs of which the first needs a GPU and the second ONNX
    on_gpu = house.submit(device="cuda", priority="high")
    as_onnx = house.submit(outputs=["onnx"])
    plain = house.submit(outputs=["safetensors"])

    # When a worker that can write safetensors alone asks, then it gets the one that it can run
    assert house.claim(outputs=["safetensors"]).job_id == plain.id
    assert house.claims.claim(card(outputs=["safetensors"])) is None

    # When others ask, then each gets its own
    assert house.claim().job_id == as_onnx.id
    assert house.claim(devices=["cpu", "cuda"]).job_id == on_gpu.id
    assert [ring.device for ring in house.outbox.due()] == ["cuda", "cpu", "cpu"]


def test_what_an_earlier_version_accepted_fails_by_name_and_stops_none_behind_it(house: House) -> None:
    # Given a queued job whose spec broke no rule when it was accepted, and one behind it
    outdated, behind = house.submit(), house.submit()
    house.accept_as_was(outdated, steps=[{"method": "prune_weights", "amount": 1.5}])

    # When a worker claims
    claim = house.claim()

    # Then it gets the one behind, and the first has failed with what is wrong
    assert claim.job_id == behind.id
    failed = house.job(outdated)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "spec_outdated"
    assert [fault.pointer for fault in failed.error.errors] == ["/steps/0/amount"]

    # Then it is told as it was accepted, also in lists
    (told,) = [job for job in house.jobs.list(TENANT).items if job.id == outdated.id]
    assert told.model_dump(mode="json")["spec"]["steps"][0]["amount"] == 1.5

    # Then it cannot be submitted again
    with pytest.raises(SpecOutdated, match="earlier version"):
        house.jobs.retry(TENANT, outdated.id)


def test_nobody_claims_where_nothing_waits(house: House) -> None:
    # Given no job, when a worker claims, then it gets nothing
    assert house.claims.claim(card()) is None


def test_a_job_that_waited_too_long_is_not_started(house: House) -> None:
    # Given a job whose time in the queue is over, and a keeper that is late
    house.submit(limits={"max_queue_seconds": 10})
    house.pass_time(11)

    # When a worker claims, then it does not get it
    assert house.claims.claim(card()) is None


def test_a_heartbeat_keeps_the_job(house: House) -> None:
    # Given a running job
    claim = house.running()

    # When heartbeats come in time, then it is not taken away, however long it runs
    for _ in range(3):
        house.pass_time(house.terms.lease_seconds - 5)
        assert house.claims.heartbeat(claim) == Beat(cancel_requested=False, lost=False)
        assert house.upkeep.reap() == 0


def test_looking_does_not_keep_the_job(house: House) -> None:
    # Given a running job whose worker looks but does not beat
    claim = house.running()
    house.pass_time(house.terms.lease_seconds + 1)
    assert house.claims.look(claim) == Beat(cancel_requested=False, lost=False)

    # When the keeper comes, then it is lost, and the next look says so
    assert house.upkeep.reap() == 1
    assert house.claims.look(claim) == Beat(cancel_requested=False, lost=True)


def test_progress_never_falls_and_is_told_once_a_second(house: House) -> None:
    # Given a running job
    claim = house.running()

    # When progress is reported thrice at once, the last time with less
    for fraction in (0.2, 0.5, 0.4):
        assert house.claims.report_progress(claim, progress(fraction))

    # Then the largest fraction is kept and one event told
    kept = house.job(claim).progress
    assert kept is not None
    assert kept.fraction == 0.5
    assert house.told(claim) == ["job.created", "job.started", "job.progress"]

    # When a second has passed, then the next report is told
    house.pass_time(1)
    assert house.claims.report_progress(claim, progress(0.6))
    assert house.told(claim)[2:] == ["job.progress", "job.progress"]


@pytest.mark.parametrize("lose", ["crash", "reap"])
def test_what_an_attempt_had_kept_back_is_not_told_by_the_next(house: House, lose: str) -> None:
    # Given progress of which the last was not told, in an attempt that is lost
    claim = house.running()
    house.claims.report_progress(claim, progress(0.2))
    house.claims.report_progress(claim, progress(0.3, "exporting"))
    if lose == "crash":
        assert house.claims.put_back(claim)
    else:
        house.pass_time(house.terms.lease_seconds + 1)
        assert house.upkeep.reap() == 1
    house.pass_time(10)

    # When the heart of the next one beats before it has said anything
    again = house.claim()
    beat = house.claims.heartbeat(again)

    # Then it goes on, and nothing is told
    assert beat == Beat(cancel_requested=False, lost=False)
    assert house.told(claim)[2:] == ["job.progress", "job.requeued", "job.started"]


def test_a_heartbeat_tells_the_progress_that_was_held_back(house: House) -> None:
    # Given progress of which the last was not told
    claim = house.running()
    house.claims.report_progress(claim, progress(0.2))
    house.claims.report_progress(claim, progress(0.3, "exporting"))

    # When two heartbeats follow
    house.claims.heartbeat(claim)
    house.claims.heartbeat(claim)

    # Then it is told, once
    last = house.events.after(TENANT, claim.job_id)[-1]
    assert last.data["phase"] == "exporting"
    assert house.told(claim)[2:] == ["job.progress", "job.progress"]


def test_steps_are_kept_as_they_go(house: House) -> None:
    # Given a running job, when its step starts and succeeds
    claim = house.running()
    assert house.claims.step_started(claim, 0)
    assert house.job(claim).steps[0].state is StepState.RUNNING
    assert house.claims.step_succeeded(claim, 0, report=STEP_REPORT)

    # Then the job has its report, and both are told
    step = house.job(claim).steps[0]
    assert (step.state, step.report) == (StepState.SUCCEEDED, STEP_REPORT)
    assert step.started_at is not None
    assert step.finished_at is not None
    assert house.told(claim)[2:] == ["step.started", "step.succeeded"]


def test_a_job_that_succeeds_shows_all_that_it_made(house: House) -> None:
    # Given a running job and its stored file
    claim = house.running(expires_after=3600)
    file = _file(house)

    # When it succeeds
    assert house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED, result=RESULT, artifacts=(file,)))

    # Then its figures, its file and the end are there together
    job = house.job(claim)
    assert (job.state, job.done, job.error) == (JobState.SUCCEEDED, True, None)
    assert (job.report, job.outcome, job.warnings) == (REPORT, "met", RESULT.warnings)
    assert [artifact.model_dump(exclude={"id", "created_at", "links"}) for artifact in job.artifacts] == [
        file.model_dump()
    ]
    assert job.artifacts[0] == house.jobs.artifact(TENANT, job.id, filename="model.onnx")
    assert job.progress is not None
    assert job.progress.fraction == 1
    assert job.finished_at is not None
    assert job.expires_at is not None
    assert (job.expires_at - job.finished_at).total_seconds() == pytest.approx(3600)
    assert house.told(job)[-1] == "job.succeeded"


def test_a_job_that_fails_says_why_and_where(house: House) -> None:
    # Given a job whose step runs, when it fails
    claim = house.running()
    house.claims.step_started(claim, 0)
    problem = JobCrashed("It died.", step_index=0).problem()
    assert house.claims.finish(claim, JobEnd(state=JobState.FAILED, error=problem)) is JobState.FAILED

    # Then the job bears the problem, its step has failed, and the event tells the code
    job = house.job(claim)
    assert job.error == problem
    assert job.steps[0].state is StepState.FAILED
    event = house.events.after(TENANT, job.id)[-1]
    assert (event.kind, event.data["error"]["code"]) == ("job.failed", "job_crashed")  # type: ignore[call-overload, index]


@pytest.mark.parametrize("said", DONE)
def test_a_job_whose_cancel_was_asked_for_ends_canceled(house: House, said: JobState) -> None:
    # Given a running job that is to be cancelled, when its worker says anything else
    claim = house.running()
    house.claims.step_started(claim, 0)
    house.jobs.request_cancel(TENANT, claim.job_id)
    error = JobCrashed().problem() if said is JobState.FAILED else None
    ended = house.claims.finish(claim, JobEnd(state=said, error=error))

    # Then it has been cancelled all the same
    job = house.job(claim)
    assert ended is job.state is JobState.CANCELED
    assert job.error is None
    assert job.steps[0].state is StepState.CANCELED
    assert house.told(job)[-1] == "job.canceled"


def test_a_file_whose_bytes_are_not_stored_cannot_be_published(house: House) -> None:
    # Given a running job, when it is to end with a file that is not in the store
    claim = house.running()
    file = _file(house).model_copy(update={"sha256": "0" * 64})

    # Then the database refuses, and the job still runs
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED, result=RESULT, artifacts=(file,)))
    assert house.job(claim).state is JobState.RUNNING


def test_a_released_job_waits_again_and_has_lost_no_attempt(house: House) -> None:
    # Given a running job with progress
    claim = house.running()
    house.claims.step_started(claim, 0)
    house.claims.report_progress(claim, progress(0.5))
    house.outbox.mark_sent(house.outbox.due())

    # When its worker shuts down
    assert house.claims.release(claim)

    # Then it is queued and rung for, its attempt not counted
    house.workers.announce(card())
    job = house.job(claim)
    assert (job.state, job.state_reason, job.attempt) == (JobState.QUEUED, StateReason.WORKER_SHUT_DOWN, 0)
    assert job.steps[0].state is StepState.PENDING
    assert len(house.outbox.due()) == 1

    # And the next one starts where it was
    again = house.claim()
    assert (again.attempt, again.fence) == (1, 3)
    assert again.deadline == claim.deadline
    assert house.told(job)[-2:] == ["job.requeued", "job.started"]


def test_a_released_job_that_was_to_be_cancelled_has_ended(house: House) -> None:
    # Given a running job that is to be cancelled, when its worker shuts down, then it is canceled
    claim = house.running()
    house.jobs.request_cancel(TENANT, claim.job_id)
    assert house.claims.release(claim)
    assert house.job(claim).state is JobState.CANCELED


def test_a_crashed_job_waits_a_while_and_has_used_an_attempt(house: House) -> None:
    # Given a job whose process died, when it is put back
    claim = house.running()
    assert house.claims.put_back(claim)

    # Then it counts, and nobody takes it before the wait is over
    assert house.job(claim).attempt == 1
    assert house.claims.claim(card()) is None
    house.pass_time(house.terms.retry_backoff_seconds)
    assert house.claim().attempt == 2


def test_a_job_that_crashes_at_its_last_attempt_has_failed(house: House) -> None:
    # Given a job that crashes every time
    job = house.submit()
    for _ in range(house.terms.max_attempts):
        assert house.claims.put_back(house.claim())
        house.pass_time(600)

    # Then it has failed after the last attempt, and nobody gets it again
    error = house.job(job).error
    assert error is not None
    assert error.code == "job_crashed"
    assert house.claims.claim(card()) is None


def _by_reaping(house: House, claim: Claim) -> None:
    house.pass_time(house.terms.lease_seconds + 1)
    assert house.upkeep.reap() == 1


def _by_the_next_attempt(house: House, claim: Claim) -> None:
    _by_reaping(house, claim)
    house.pass_time(house.terms.retry_backoff_seconds)
    house.claim(worker_id="worker-2")


def _by_ending(house: House, claim: Claim) -> None:
    assert house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED, result=RESULT))


@pytest.mark.parametrize("lose", [_by_reaping, _by_the_next_attempt, _by_ending])
def test_a_claim_that_is_not_the_newest_changes_nothing(house: House, lose: object) -> None:
    # Given a worker whose claim was lost while it was paused
    claim = house.running()
    file = _file(house)
    lose(house, claim)  # type: ignore[operator]
    before = (house.job(claim), house.told(claim), house.logs.read(TENANT, claim.job_id))

    # When it does everything that a worker can do
    assert house.claims.heartbeat(claim) == Beat(cancel_requested=False, lost=True)
    assert not house.claims.report_progress(claim, progress(0.9))
    assert not house.claims.step_started(claim, 0)
    assert not house.claims.step_succeeded(claim, 0, report=STEP_REPORT)
    assert not house.logs.append(claim, b"too late")
    assert not house.checkpoints.keep(claim, house.keep(b"state"), code_version="1.0", position={})
    assert not house.claims.release(claim)
    assert not house.claims.put_back(claim)
    assert house.claims.finish(claim, JobEnd(state=JobState.FAILED, artifacts=(file,))) is None

    # Then nothing has happened
    assert (house.job(claim), house.told(claim), house.logs.read(TENANT, claim.job_id)) == before
