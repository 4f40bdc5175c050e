"""What is told of a job."""

import pytest

from contract.failures import NotFound
from tests.integration.storage.house import TENANT, House


def test_events_are_read_from_a_number_on(house: House) -> None:
    # Given a job with three events
    claim = house.running()
    house.jobs.request_cancel(TENANT, claim.job_id)

    # When they are read from a number on, then only later ones come, in order, at most as many as asked for
    def read(**wanted: int) -> list[int]:
        return [event.number for event in house.events.after(TENANT, claim.job_id, **wanted)]

    assert read() == [1, 2, 3]
    assert read(number=1) == [2, 3]
    assert read(number=1, limit=1) == [2]
    assert read(number=3) == []


def test_the_newest_numbers_of_many_jobs_come_at_once(house: House) -> None:
    # Given a queued job, a running one, and one that is gone
    queued, running = house.submit(priority="low"), house.running()
    gone = house.jobs.request_cancel(TENANT, house.submit().id)
    house.jobs.delete(TENANT, gone.id)

    # When their newest numbers are asked for, then those come that are still there
    newest = house.events.newest([queued.id, running.job_id, gone.id])
    assert newest == {queued.id: 1, running.job_id: 2}
    assert house.events.newest([]) == {}


def test_an_unknown_job_has_no_events(house: House) -> None:
    # Given nothing, when the events of a job are read, then it is not found
    with pytest.raises(NotFound):
        house.events.after(TENANT, "job_" + "0" * 26)
