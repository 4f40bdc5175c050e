"""A limit on Python that never comes back, in any thread."""

import gc
import threading
import time

import pytest

from compressor.time_limit import Limit, TimeLimitExceeded, time_limit

# It may come while the collector calls back (hypothesis listens there), which swallows it with a warning.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def spin() -> None:
    while True:
        pass


def test_python_that_never_ends_is_stopped() -> None:
    # Given, when, then: a loop without end ends
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        spin()


def test_it_works_in_other_threads_than_the_first() -> None:
    # Given: a loop without end in a thread
    stopped = threading.Event()

    def run() -> None:
        try:
            with time_limit(0.05):
                spin()
        except TimeLimitExceeded:
            stopped.set()

    thread = threading.Thread(target=run, daemon=True)

    # When: it runs
    thread.start()

    # Then: it ends there
    thread.join(timeout=30)
    assert stopped.is_set()


def test_what_is_done_in_time_is_left_alone() -> None:
    # Given: work that is done long before its limit
    with time_limit(0.2):
        done = sum(range(1000))

    # When: the limit passes
    time.sleep(0.3)

    # Then: nothing happens
    assert done == 499500


def test_time_within_a_pause_does_not_count_and_other_time_does() -> None:
    # Given: work that takes longer than its limit, and then never ends
    done = threading.Event()

    def work(limit: Limit) -> None:
        with limit.paused():
            time.sleep(0.3)
            done.set()
        spin()

    # When: the first is done in a pause
    with pytest.raises(TimeLimitExceeded), time_limit(0.1) as limit:
        work(limit)

    # Then: only the second is stopped
    assert done.is_set()


def test_it_is_said_again_where_it_was_swallowed() -> None:
    # Given: code that swallows the first, as the interpreter does in destructors
    def swallow() -> None:
        try:
            spin()
        except TimeLimitExceeded:
            spin()

    # When, then: it ends all the same
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        swallow()


def test_it_is_said_again_where_the_collector_swallowed_it() -> None:
    # Given: a callback of the collector, underway when the time is over
    once = iter([spin])

    def called_back(phase: str, info: dict[str, int]) -> None:
        next(once, lambda: None)()

    def collect() -> None:
        gc.callbacks.append(called_back)
        gc.collect()
        gc.callbacks.remove(called_back)
        spin()

    # When, then: what runs behind it ends all the same
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        collect()
