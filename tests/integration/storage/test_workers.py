"""Who is there to work."""

from contract.worker import LiveWorker
from tests.integration.storage.house import House, card


def test_a_worker_lives_as_long_as_it_is_heard_of(house: House) -> None:
    # Given two workers of which one speaks again later, with a job
    house.workers.announce(card("one"))
    house.workers.announce(card("two"))
    house.pass_time(20)
    house.workers.announce(card("two", slots=2), busy=1)
    assert [worker.id for worker in house.workers.live()] == ["one", "two"]

    # When the first has been silent for too long, then only the other is there, as it last said
    house.pass_time(15)
    (worker,) = house.workers.live()
    assert isinstance(worker, LiveWorker)
    assert (worker.id, worker.slots, worker.busy) == ("two", 2, 1)
    assert worker.outputs == card().outputs


def test_a_worker_that_leaves_is_not_there(house: House) -> None:
    # Given a worker, when it leaves, then it is gone at once
    house.workers.announce(card("one"))
    house.workers.leave("one")
    assert house.workers.live() == ()


def test_workers_are_forgotten_after_a_day(house: House) -> None:
    # Given a worker that was last heard of yesterday, and one of today
    house.workers.announce(card("yesterday"))
    house.pass_time(25 * 3600)
    house.workers.announce(card("today"))

    # When the keeper comes, then it drops the first
    assert house.workers.forget() == 1
    assert [worker.id for worker in house.workers.live()] == ["today"]
