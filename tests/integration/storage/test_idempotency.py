"""Writes can be repeated."""

import pytest

from contract.failures import IdempotencyKeyInFlight, IdempotencyKeyReused, NotFound
from contract.job import Job
from storage.idempotency import Reply
from storage.values import Answer, NewJob, Ticket
from tests.integration.storage.house import TENANT, House, spec

BODY, OTHER_BODY = "a" * 64, "b" * 64
NOWHERE = "mdl_" + "0" * 26


def _begin(house: House, key: str = "key", fingerprint: str = BODY, tenant: str = TENANT) -> Ticket:
    begun = house.idempotency.begin(tenant, key, fingerprint=fingerprint)
    assert isinstance(begun, Ticket)
    return begun


def _answer(job: Job) -> Answer:
    return Answer(status=202, headers={"Location": f"/v1/jobs/{job.id}"}, body=job.id.encode())


def test_the_answer_is_written_with_the_job_and_given_again(house: House) -> None:
    # Given a request with a key, when its job is added
    reply = Reply(_begin(house), _answer)
    job = house.jobs.add(NewJob(tenant=TENANT, spec=spec()), reply=reply)

    # Then the same request gets the same answer
    assert house.idempotency.begin(TENANT, "key", fingerprint=BODY) == _answer(job)
    assert len(house.jobs.list(TENANT).items) == 1


def test_a_job_that_cannot_be_answered_is_not_written(house: House) -> None:
    # Given a request that took so long that another has taken over its key
    slow = _begin(house)
    house.pass_time(61)
    quick = _begin(house)

    # When the slow one comes to write its job before and after the quick one, then it cannot
    with pytest.raises(IdempotencyKeyInFlight):
        house.jobs.add(NewJob(tenant=TENANT, spec=spec()), reply=Reply(slow, _answer))
    job = house.jobs.add(NewJob(tenant=TENANT, spec=spec()), reply=Reply(quick, _answer))
    with pytest.raises(IdempotencyKeyInFlight):
        house.jobs.add(NewJob(tenant=TENANT, spec=spec()), reply=Reply(slow, _answer))

    # And there is just one job
    assert [each.id for each in house.jobs.list(TENANT).items] == [job.id]


def test_a_request_in_flight_is_not_begun_again(house: House) -> None:
    # Given a request that is being answered, when it comes again, then it must wait
    _begin(house)
    house.pass_time(59)
    with pytest.raises(IdempotencyKeyInFlight):
        house.idempotency.begin(TENANT, "key", fingerprint=BODY)


def test_another_body_with_the_same_key_is_refused(house: House) -> None:
    # Given a key that was used, when another request bears it, then it is refused, in flight and answered
    ticket = _begin(house)
    with pytest.raises(IdempotencyKeyReused):
        house.idempotency.begin(TENANT, "key", fingerprint=OTHER_BODY)
    house.idempotency.conclude(ticket, Answer(status=200, headers={}, body=b""))
    with pytest.raises(IdempotencyKeyReused):
        house.idempotency.begin(TENANT, "key", fingerprint=OTHER_BODY)


def test_keys_are_each_tenants_own(house: House) -> None:
    # Given a key of ours, when another tenant uses the same, then both are fresh
    _begin(house)
    _begin(house, tenant="theirs", fingerprint=OTHER_BODY)


def test_a_refused_request_frees_its_key(house: House) -> None:
    # Given a request that was refused, when its key is freed, then it can be used again, for another body too
    ticket = _begin(house)
    with pytest.raises(NotFound):
        house.jobs.add(NewJob(tenant=TENANT, spec=spec(model=NOWHERE)), reply=Reply(ticket, _answer))
    house.idempotency.abandon(ticket)
    _begin(house, fingerprint=OTHER_BODY)


def test_an_answer_is_not_dropped_by_one_who_comes_late(house: House) -> None:
    # Given an answered request, when its key is freed after all, then the answer stays
    ticket = _begin(house)
    answer = Answer(status=201, headers={"ETag": "x"}, body=b"\x00\xff")
    house.idempotency.conclude(ticket, answer)
    house.idempotency.abandon(ticket)
    assert house.idempotency.begin(TENANT, "key", fingerprint=BODY) == answer


def test_answers_are_kept_for_a_day(house: House) -> None:
    # Given an answered request
    house.idempotency.conclude(_begin(house), Answer(status=200, headers={}, body=b""))
    house.pass_time(24 * 3600 - 5)
    assert house.idempotency.forget() == 0
    assert isinstance(house.idempotency.begin(TENANT, "key", fingerprint=BODY), Answer)

    # When a day has passed, then the key is fresh, whether or not the keeper has been there
    house.pass_time(6)
    _begin(house, fingerprint=OTHER_BODY)
    house.pass_time(24 * 3600 + 1)
    assert house.idempotency.forget() == 1
