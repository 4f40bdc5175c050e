"""What happens at once still happens once."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

from contract.failures import ContentGone, Failure, IdempotencyKeyInFlight, InUse, InvalidState, NotFound
from contract.job import EventKind, JobState
from storage.claims import Claims
from storage.database import open_database
from storage.outbox import Outbox
from storage.values import Blob, Claim, JobEnd, NewJob, Ticket
from tests.integration.storage.house import DONE, TENANT, TERMS, House, card, spec

ENDS = {EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELED}

#: Rounds of each race of two; each lets the two start at the same instant.
ROUNDS = 40


def _at_once(*acts: Callable[[], object]) -> list[object]:
    """What each returned, or the failure that it raised."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> object:
        start.wait(30)
        try:
            return act()
        except Failure as failure:
            return failure

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def _claim_all(url: str, worker_id: str, claimed: object) -> None:
    database = open_database(url)
    claims = Claims(database, TERMS)
    while claim := claims.claim(card(worker_id)):
        claimed.put((claim.job_id, claim.fence))  # type: ignore[attr-defined]
    claimed.put(None)  # type: ignore[attr-defined]
    database.close()


def test_each_job_is_claimed_once_by_all_processes_together(house: House, database_url: str) -> None:
    # Given sixty jobs
    jobs = [house.submit().id for _ in range(60)]

    # When three processes claim until nothing is left
    context = get_context("spawn")
    claimed = context.Queue()
    workers = [context.Process(target=_claim_all, args=(database_url, f"worker-{n}", claimed)) for n in range(3)]
    for worker in workers:
        worker.start()
    taken: list[tuple[str, int]] = []
    ended = 0
    while ended < len(workers):
        word = claimed.get(timeout=120)
        ended += word is None
        taken += [word] if word is not None else []
    for worker in workers:
        worker.join()

    # Then each job was taken once, with its first fence
    assert Counter(taken) == Counter({(job, 1): 1 for job in jobs})


def test_workers_that_claim_at_once_do_not_go_away_empty(house: House) -> None:
    # Given as many jobs as workers, a few times over
    for _ in range(5):
        jobs = {house.submit().id for _ in range(6)}

        # When all claim at once, then each gets one: whom another is just taking is passed over
        found = _at_once(*[lambda: house.claims.claim(card())] * 6)
        assert {claim.job_id for claim in found if isinstance(claim, Claim)} == jobs


def test_each_ring_is_taken_by_one_relay(house: House) -> None:
    # Given thirty rings, when four relays take them at once
    for _ in range(30):
        house.submit()

    def relay() -> list[int]:
        taken = []
        while rings := Outbox(house.database).due(limit=3):
            taken += [ring.id for ring in rings]
        return taken

    found = _at_once(relay, relay, relay, relay)

    # Then each ring went to one of them
    assert Counter(ring for rings in found for ring in rings) == Counter(range(1, 31))  # type: ignore[attr-defined]


def test_a_cancel_and_an_end_leave_one_end(house: House) -> None:
    # Given a running job, many times over
    seen = Counter[str]()
    for _ in range(ROUNDS):
        claim = house.running()

        # When its client cancels it just as its worker finishes it
        ended, answer = _at_once(
            lambda claim=claim: house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED)),
            lambda claim=claim: house.jobs.request_cancel(TENANT, claim.job_id),
        )

        # Then it has one end, and both were told the truth
        job = house.job(claim)
        ends = [event.kind for event in house.events.after(TENANT, job.id) if event.kind in ENDS]
        assert len(ends) == 1
        assert job.state is ended
        assert (job.state is JobState.SUCCEEDED) == isinstance(answer, InvalidState)
        seen[job.state] += 1
    assert set(seen) <= {JobState.SUCCEEDED, JobState.CANCELED}


def test_a_cancel_and_a_claim_do_not_miss_each_other(house: House) -> None:
    # Given a queued job, many times over
    for _ in range(ROUNDS):
        job = house.submit()

        # When its client cancels it just as a worker claims it
        claim, answer = _at_once(
            lambda: house.claims.claim(card()), lambda job=job: house.jobs.request_cancel(TENANT, job.id)
        )

        # Then it was either ended before, or its worker hears of it
        assert not isinstance(answer, Failure)
        if claim is None:
            assert house.job(job).state is JobState.CANCELED
        else:
            assert house.claims.heartbeat(claim).cancel_requested  # type: ignore[arg-type]
            house.claims.finish(claim, JobEnd(state=JobState.CANCELED))  # type: ignore[arg-type]


def test_a_keeper_and_an_end_do_not_both_win(house: House) -> None:
    # Given a job whose lease has just run out, many times over
    for _ in range(ROUNDS):
        claim = house.running()
        house.pass_time(TERMS.lease_seconds + 1)

        # When two keepers reap it just as its worker finishes it
        first, second, ended = _at_once(
            house.upkeep.reap,
            house.upkeep.reap,
            lambda claim=claim: house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED)),
        )

        # Then just one of the three has done it
        assert (first == 1) + (second == 1) + (ended is not None) == 1
        if ended is None:
            house.jobs.request_cancel(TENANT, claim.job_id)
        assert house.job(claim).state in DONE


def test_one_of_many_equal_requests_is_answered(house: House) -> None:
    # Given eight requests with the same key, when they begin at once
    def begin() -> object:
        return house.idempotency.begin(TENANT, "key", fingerprint="a" * 64)

    found = _at_once(*[begin] * 8)

    # Then one may answer, and the others must wait
    assert Counter(type(each) for each in found) == {Ticket: 1, IdempotencyKeyInFlight: 7}


def test_equal_bytes_that_come_at_once_are_kept_once(house: House) -> None:
    # Given the same bytes from four clients at once
    found = _at_once(*[lambda: house.keep(b"same" * 100_000)] * 4)

    # Then all of them have the same blob
    assert len(set(found)) == 1
    (blob,) = set(found)
    assert isinstance(blob, Blob)
    assert len(b"".join(house.blobs.read(TENANT, blob.sha256))) == 400_000


def test_content_that_comes_twice_at_once_is_taken_once(house: House) -> None:
    # Given a model that awaits its content, when two contents come at once
    model = house.model(content=None)
    blobs = [house.keep(content) for content in (b"one", b"two")]
    found = _at_once(*[lambda blob=blob: house.models.set_content(TENANT, model.id, blob) for blob in blobs])

    # Then one is taken and the other refused
    assert sorted(isinstance(each, InvalidState) for each in found) == [False, True]
    assert house.models.get(TENANT, model.id) in found


def test_a_model_is_not_deleted_under_a_job_that_needs_it(house: House) -> None:
    # Given a model, many times over
    for _ in range(ROUNDS // 2):
        model = house.model()
        new = NewJob(tenant=TENANT, spec=spec(model=model.id))

        # When it is deleted just as a job that needs it is added
        deleted, added = _at_once(
            lambda model=model: house.models.delete(TENANT, model.id), lambda new=new: house.jobs.add(new)
        )

        # Then either the job has its model, or there is neither
        if isinstance(added, NotFound):
            assert deleted is None
        else:
            assert isinstance(deleted, InUse)
            claim = house.claim()
            assert claim.model == model
            house.claims.finish(claim, JobEnd(state=JobState.FAILED))


def test_bytes_are_not_collected_under_one_who_refers_to_them(house: House) -> None:
    # Given bytes that are about to be dropped, many times over
    for number in range(ROUNDS // 2):
        blob = house.keep(f"content {number}".encode())
        model = house.model(content=None)
        house.pass_time(1801)
        house.blobs.garbage()
        house.pass_time(601)

        # When a keeper drops them just as a model comes to refer to them
        dropped, referred = _at_once(
            house.blobs.garbage,
            lambda model=model, blob=blob: house.models.set_content(TENANT, model.id, blob),
        )

        # Then the model has them, or it was refused
        if isinstance(referred, ContentGone):
            assert dropped == 1
        else:
            assert b"".join(house.blobs.read(TENANT, blob.sha256)) == f"content {number}".encode()
