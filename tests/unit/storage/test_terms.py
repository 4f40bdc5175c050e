"""How long things last."""

from contract.settings import Settings
from storage.terms import Terms


def test_the_wait_doubles_and_does_not_grow_for_ever() -> None:
    # Given a first wait of five seconds, when attempts are lost, then it doubles up to ten minutes
    terms = Terms(retry_backoff_seconds=5)
    assert [terms.backoff_after(attempt) for attempt in (1, 2, 3, 8, 100)] == [5, 10, 20, 600, 600]


def test_settings_become_terms() -> None:
    # Given settings, when terms are made of them, then they are those
    settings = Settings(lease_seconds=3, retry_backoff_seconds=0.5, max_attempts=2, ring_again_seconds=7)
    terms = Terms.of(settings)
    assert (terms.lease_seconds, terms.retry_backoff_seconds) == (3, 0.5)
    assert (terms.max_attempts, terms.ring_again_seconds) == (2, 7)
