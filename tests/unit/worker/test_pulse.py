"""The pulse keeps the lease, brings the cancel, and ends what it cannot keep."""

import threading

import pytest

from contract.failures import Failure, Unavailable
from storage.faults import DatabaseFull
from storage.values import Beat
from tests.deadline import until
from worker.pulse import Pulse, Verdict, patience

FINE = Beat(cancel_requested=False, lost=False)


class Database:
    """Answers as it is told, and counts."""

    def __init__(self, answer: Beat | type[Failure]) -> None:
        self.answer = answer
        self.beats = 0
        self.stopped = threading.Event()

    def beat(self) -> Beat:
        self.beats += 1
        return self.look()

    def look(self) -> Beat:
        if isinstance(self.answer, Beat):
            return self.answer
        raise self.answer

    def pulse(self, *, lease_seconds: float) -> Pulse:
        return Pulse(
            beat=self.beat,
            look=self.look,
            stop=self.stopped.set,
            heartbeat_seconds=0.02,
            lease_seconds=lease_seconds,
        )


def test_it_beats_until_its_end() -> None:
    # Given a database that answers / When the pulse goes for some beats
    database = Database(FINE)
    with database.pulse(lease_seconds=60) as pulse:
        until(lambda: database.beats >= 5, every=0.01)
    beats = database.beats
    # Then nothing is wrong, and it beats no more
    assert pulse.verdict is None
    assert not database.stopped.wait(0.1)
    assert database.beats == beats


def test_a_cancel_is_heard_by_looking() -> None:
    # Given a job that was canceled, and a heartbeat that is far away
    database = Database(Beat(cancel_requested=True, lost=False))
    # When / Then
    with database.pulse(lease_seconds=60) as pulse:
        assert database.stopped.wait(30)
        assert pulse.verdict is Verdict.CANCELED


def test_a_lost_claim_stops_the_runner_even_behind_a_cancel() -> None:
    # Given a job that was canceled
    database = Database(Beat(cancel_requested=True, lost=False))
    with database.pulse(lease_seconds=60) as pulse:
        assert database.stopped.wait(30)
        # When it is then taken by another / Then that counts
        database.answer = Beat(cancel_requested=False, lost=True)
        until(lambda: pulse.verdict is Verdict.LOST, every=0.01)


def test_a_database_that_stays_away_ends_the_attempt_before_its_lease() -> None:
    # Given a database that went away / When its silence lasts
    database = Database(Unavailable)
    with database.pulse(lease_seconds=0.2) as pulse:
        # Then
        assert database.stopped.wait(30)
        assert pulse.verdict is Verdict.LOST


@pytest.mark.parametrize("refusal", [Unavailable, DatabaseFull])
def test_a_refusal_that_passes_ends_nothing(refusal: type[Failure]) -> None:
    # Given a database that refuses some beats
    database = Database(refusal)
    with database.pulse(lease_seconds=60) as pulse:
        until(lambda: database.beats >= 2, every=0.01)
        # When it takes them again / Then the pulse goes on, and hears
        database.answer = FINE
        beats = database.beats
        until(lambda: database.beats >= beats + 2, seconds=30, every=0.01)
        assert pulse.verdict is None
        database.answer = Beat(cancel_requested=True, lost=False)
        assert database.stopped.wait(30)
        assert pulse.verdict is Verdict.CANCELED


def test_a_database_that_hangs_ends_the_attempt_too() -> None:
    # Given a database that never answers a question
    answered = threading.Event()
    database = Database(FINE)

    def hang() -> Beat:
        answered.wait(60)
        return FINE

    pulse = Pulse(beat=hang, look=hang, stop=database.stopped.set, heartbeat_seconds=0.02, lease_seconds=0.2)
    # When / Then
    with pulse:
        assert database.stopped.wait(30)
        answered.set()


def test_there_is_time_left_to_kill_the_runner() -> None:
    # Given leases of a minute and of seconds / When / Then
    assert patience(60) == 45
    assert patience(4) == 3
